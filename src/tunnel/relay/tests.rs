//! What one relay does with what comes, over real sockets of this machine.
