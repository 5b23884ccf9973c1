//! Whole-system scenarios against a real control plane and real engines, and the bench.
