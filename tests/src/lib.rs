//! System tests over real servers.
