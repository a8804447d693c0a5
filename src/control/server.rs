//! The daemon's end: listens, reads one request a caller, checks the caller's right, hands the call over.
