//! What the system's own lookups do not tell: all names of an address, and who offers a service.

mod message;
mod resolver;
mod reverse;

pub use message::Service;
pub use resolver::Resolver;
pub use reverse::ReverseLookup;
