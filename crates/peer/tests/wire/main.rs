//! Members in one process that reach each other over real sockets, and others that only pretend to be members.

mod cluster;
mod fake;
mod member;
mod reading;
mod secure;
mod serving;
