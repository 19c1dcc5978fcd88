//! Behaviours that clients see, each by an example.
