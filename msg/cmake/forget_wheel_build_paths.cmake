# The ROS wheels of PyPI were built in a container whose Python lay in /opt/python, and their export files
# (*__rosidl_generator_pyExport.cmake) still name its include directories. CMake stops at an imported target
# with an include directory that does not exist, so those entries are taken out again.
function(forget_wheel_build_paths)
  get_property(targets DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}" PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(directories MATCHES "/opt/python/")
      list(FILTER directories EXCLUDE REGEX "^/opt/python/")
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${directories}")
    endif()
  endforeach()
endfunction()
