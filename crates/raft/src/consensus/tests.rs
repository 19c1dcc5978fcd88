//! Scenarios of the state machine.
