//! Reconcile helpers for operators that work with Kthena objects.
