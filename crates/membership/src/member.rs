//! One member, as the cluster knows it.

use crate::id::MemberId;

/// A member. Its id and peer URLs come from a configuration change, the rest from the member itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: MemberId,
    pub peer_urls: Vec<String>,
    pub is_learner: bool,
    pub attributes: Attributes,
}

/// What a member says of itself once it has started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Empty until the member has published itself.
    pub name: String,
    pub client_urls: Vec<String>,
}

impl Member {
    pub fn is_started(&self) -> bool {
        !self.attributes.name.is_empty()
    }
}
