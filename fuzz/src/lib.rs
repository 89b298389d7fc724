//! What the fuzz targets share; compiled once for all of them.
//!
//! A target reads its input as choices ([`input`]), makes or damages a store by them ([`made`],
//! [`damage`], [`segment`]), and holds what the store then shows against what it had.

pub mod damage;
pub mod input;
pub mod made;
pub mod panics;
pub mod segment;

#[path = "../../tests/kit/faults.rs"]
pub mod faults;
#[path = "../../tests/kit/steps.rs"]
pub mod steps;

// The simulated disk and the oracle of the trust suite; they name each other from the root.
#[path = "../../trust/src/disk/mod.rs"]
pub mod disk;
#[path = "../../trust/src/random.rs"]
pub mod random;
#[path = "../../trust/src/world/mod.rs"]
pub mod world;
