//! Addresses, routes and interfaces of the operating system, over netlink.
