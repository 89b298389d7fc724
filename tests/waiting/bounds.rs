//! What a wait is bounded by, and what is told at once.
