//! Values and errors of redis-server.
