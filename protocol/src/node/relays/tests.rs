//! Homes, volunteers, whom this node carries for, and whom it calls by a circuit.
