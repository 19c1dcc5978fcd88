//! The power goes at every moment of a scripted life.

use crate::model::*;
#[test]
fn placeholder() {
    let _ = new_disk();
}
