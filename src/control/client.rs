//! The command line's end: connects, sends one request, reads responses.
