//! CLUSTER and its kin, with and without a ring.
