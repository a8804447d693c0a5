//! The TUN device: opened under a free name, read and written one packet at a time, which may be up to 64 KiB long.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::unistd::{read, write};
use tun::AbstractDevice as _;

use super::offload::{VNET_BYTES, Vnet};

/// Where the kernel hands out TUN devices.
const NODE: &str = "/dev/net/tun";

/// Bytes of a device's name: the kernel's `IFNAMSIZ` without the closing zero.
const NAME_BYTES_MAX: usize = 15;

/// Names tried: the wanted one and the same with 1 to 99 appended.
const NAMES_MAX: u32 = 100;

/// What is asked of the host; what it refuses is done without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offloads {
    /// Whole TCP streams and datagrams, cut and merged here.
    #[default]
    All,
    /// The same for TCP alone.
    Tcp,
    /// One packet at a time.
    None,
}

/// Why there is no TUN device; each wants another thing done.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// The kernel can do TUN, but the file is missing: a container without `--device /dev/net/tun`.
    #[error("the device node /dev/net/tun is missing")]
    NoDeviceNode,
    /// The kernel has no TUN driver, or its module is not loaded and cannot be.
    #[error("the kernel module tun is missing")]
    NoModule,
    /// The file may not be opened, or the process lacks `CAP_NET_ADMIN`.
    #[error("a network device needs administrator rights (CAP_NET_ADMIN and /dev/net/tun)")]
    Permission,
    /// The wanted name and all its numbered forms are taken.
    #[error("the device name {0} and all its numbered forms are in use")]
    InUse(String),
    /// Something else; the kernel's words.
    #[error("the network device cannot be made")]
    Other(#[source] io::Error),
}

/// An open TUN device; it vanishes, with its addresses and routes, when the last handle closes.
pub(crate) struct Device {
    inner: tun::Device,
    name: String,
    /// What the host does take off us. With anything, a header of it stands before each packet.
    offloads: Offloads,
}

/// What the host is asked to leave to us (`linux/if_tun.h`).
const CHECKSUM: i32 = 1;
const TCP: i32 = 2 | 4;
const UDP: i32 = 0x20 | 0x40;

mod sys {
    //! The one call of the TUN driver that no library makes.

    use nix::{ioctl_write_int_bad, request_code_write};

    ioctl_write_int_bad!(
        /// `TUNSETOFFLOAD`.
        set_offload,
        request_code_write!(b'T', 208, size_of::<u32>())
    );
}

impl Device {
    /// Makes a device of the wanted name, or of the first numbered form of it that is free.
    ///
    /// The host is asked for packets of up to 64 KiB, to be cut here; where it has none to give, each comes by itself.
    pub(crate) fn open(wanted: &str, mtu: u16, offloads: Offloads) -> Result<Self, TunError> {
        if let Err(error) = probe_node() {
            return Err(explain(&error, tun_driver_present()));
        }
        for name in names(wanted) {
            if if_nametoindex(name.as_str()).is_ok() {
                continue;
            }
            match create(&name, mtu, offloads) {
                Ok(inner) => return Ok(Self::ready(inner, name, offloads)),
                Err(error) if taken(&error) => {}
                Err(error) => return Err(explain(&error, true)),
            }
        }
        Err(TunError::InUse(wanted.to_owned()))
    }

    fn ready(inner: tun::Device, name: String, offloads: Offloads) -> Self {
        let mut device = Self {
            inner,
            name,
            offloads,
        };
        // Kernels before 6.2 do not cut datagrams.
        if offloads == Offloads::All && device.ask(CHECKSUM | TCP | UDP).is_err() {
            device.offloads = Offloads::Tcp;
        }
        if device.offloads == Offloads::Tcp
            && let Err(error) = device.ask(CHECKSUM | TCP)
        {
            tracing::warn!(%error, "the host gives packets one by one: bulk traffic is slow");
        }
        device
    }

    #[expect(unsafe_code, reason = "no library makes this call of the driver")]
    fn ask(&self, offloads: i32) -> nix::Result<()> {
        // SAFETY: the descriptor is a TUN device's and open, and the call takes a plain number.
        unsafe { sys::set_offload(self.inner.as_raw_fd(), offloads) }.map(|_| ())
    }

    /// What the host takes off us.
    pub(crate) const fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// Where in a buffer the host's part begins.
    const fn begin(&self) -> usize {
        match self.offloads {
            Offloads::All | Offloads::Tcp => 0,
            Offloads::None => VNET_BYTES,
        }
    }

    /// The name that it got.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Reads one packet behind the host's header: their length together. `WouldBlock` when there is none.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let at = self.begin();
        buffer[..VNET_BYTES].copy_from_slice(&Vnet::PLAIN.bytes());
        let length = read(self, &mut buffer[at..])?;
        Ok(at + length)
    }

    /// Writes one packet with the host's header before it. Where the host knows none, it must be a plain one.
    pub(crate) fn send(&self, headed: &[u8]) -> io::Result<()> {
        write(self, &headed[self.begin()..])?;
        Ok(())
    }
}

impl AsFd for Device {
    #[expect(
        unsafe_code,
        reason = "the tun crate hands out its descriptor as a number only"
    )]
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor stays open as long as `inner`, which `self` owns and never replaces.
        unsafe { BorrowedFd::borrow_raw(self.inner.as_raw_fd()) }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.name)
    }
}

/// Opens and closes the device node: tells a missing node from a missing right before anything is made.
fn probe_node() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(NODE)
}

/// Whether the running kernel has the TUN driver, by its own list of misc devices.
fn tun_driver_present() -> bool {
    std::fs::read_to_string("/proc/misc").is_ok_and(|list| {
        list.lines()
            .any(|line| line.split_whitespace().nth(1) == Some("tun"))
    })
}

/// Makes the device and readies it for [`Device::receive`].
fn create(name: &str, mtu: u16, offloads: Offloads) -> io::Result<tun::Device> {
    let mut configuration = tun::Configuration::default();
    configuration.tun_name(name).mtu(mtu);
    configuration.platform_config(|platform| {
        platform.ensure_root_privileges(false);
        platform.vnet_hdr(offloads != Offloads::None);
    });
    let mut device = tun::Device::new(&configuration)?;
    device.set_nonblock()?;
    device.set_mtu(mtu)?;
    Ok(device)
}

/// The wanted name, then the same with a number, each cut to fit the kernel's limit.
fn names(wanted: &str) -> impl Iterator<Item = String> {
    (0..NAMES_MAX).map(move |number| {
        let suffix = if number == 0 {
            String::new()
        } else {
            number.to_string()
        };
        let mut stem = wanted.to_owned();
        while stem.len() + suffix.len() > NAME_BYTES_MAX {
            stem.pop();
        }
        stem + &suffix
    })
}

/// Whether another program took the name between our look and our try.
fn taken(error: &io::Error) -> bool {
    matches!(
        errno(error),
        Some(Errno::EBUSY | Errno::EEXIST | Errno::EINVAL)
    )
}

/// Which of the things that a person can mend is missing.
fn explain(error: &io::Error, driver_present: bool) -> TunError {
    match errno(error) {
        Some(Errno::ENOENT) if driver_present || Path::new("/sys/module/tun").exists() => {
            TunError::NoDeviceNode
        }
        Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => TunError::NoModule,
        Some(Errno::EPERM | Errno::EACCES) => TunError::Permission,
        _ => TunError::Other(error.raw_os_error().map_or_else(
            || io::Error::other(error.to_string()),
            io::Error::from_raw_os_error,
        )),
    }
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno as i32)
    }

    #[test]
    fn a_name_in_use_gets_a_number_and_never_grows_past_the_kernels_limit() {
        let short: Vec<_> = names("mn-main").take(3).collect();
        assert_eq!(short, ["mn-main", "mn-main1", "mn-main2"]);
        let long: Vec<_> = names("mn-abcdefghijklmnop").take(11).collect();
        assert_eq!(long[0], "mn-abcdefghijkl");
        assert_eq!(long[1], "mn-abcdefghijk1");
        assert_eq!(long[10], "mn-abcdefghij10");
    }

    #[test]
    fn each_failure_names_what_is_missing() {
        assert!(matches!(
            explain(&os(Errno::ENOENT), true),
            TunError::NoDeviceNode
        ));
        assert!(matches!(
            explain(&os(Errno::ENODEV), false),
            TunError::NoModule
        ));
        assert!(matches!(
            explain(&os(Errno::EPERM), true),
            TunError::Permission
        ));
        assert!(matches!(
            explain(&os(Errno::EACCES), true),
            TunError::Permission
        ));
        assert!(matches!(explain(&os(Errno::EIO), true), TunError::Other(_)));
    }
}
