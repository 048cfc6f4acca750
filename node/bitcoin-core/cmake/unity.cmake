# Given to Bitcoin Core's build as CMAKE_PROJECT_INCLUDE: makes a unity build of it possible.
#
# Three files are compiled alone. Two define names that collide with those of their neighbours. The
# third, init/common.cpp, needs parts of the node library: in an object of its own bitcoin-cli,
# which links its neighbours only, does without it.
#
# The targets do not exist yet when this file is read, hence the deferral, and CMake wants the same
# paths as the targets will have, hence absolute ones.
cmake_language(DEFER DIRECTORY ${CMAKE_SOURCE_DIR} CALL set_source_files_properties
  ${CMAKE_SOURCE_DIR}/src/index/coinstatsindex.cpp
  ${CMAKE_SOURCE_DIR}/src/init/common.cpp
  ${CMAKE_SOURCE_DIR}/src/node/caches.cpp
  DIRECTORY ${CMAKE_SOURCE_DIR}/src
  PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
