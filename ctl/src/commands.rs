//! Commands that ask or change a cluster through the admin interface, one module each.

pub(crate) mod backup;
pub(crate) mod drain;
pub(crate) mod members;
pub(crate) mod payouts;
pub(crate) mod rounds;
pub(crate) mod status;
pub(crate) mod users;
