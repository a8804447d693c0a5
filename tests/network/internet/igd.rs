//! A router that maps ports for whoever asks: a real `miniupnpd`, as many home routers run it.

use std::fs;
use std::thread;
use std::time::Duration;

use meshnode::lab::{Machine, Process};

use super::{Site, rules, tools};

/// The protocols that a router speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// UPnP-IGD alone.
    Igd,
    /// NAT-PMP and PCP.
    Pmp,
    All,
}

/// How long it may take to listen.
const START: Duration = Duration::from_millis(300);

/// Lets the router of a site map ports as long as the process is kept.
pub(crate) fn serve_site(site: &Site, speaks: Speaks) -> Process {
    serve(
        site.router(),
        rules::WAN,
        rules::LAN,
        &site.network(),
        speaks,
    )
}

/// The same for any router, by the names of its links and its inner network (`192.168.1.0/24`).
///
/// Its outer address must look like a real one, or the program maps nothing.
pub(crate) fn serve(
    router: &Machine,
    wan: &str,
    lan: &str,
    network: &str,
    speaks: Speaks,
) -> Process {
    tools::nft(router, CHAINS);
    let answer = |wanted| {
        if speaks == wanted || speaks == Speaks::All {
            "yes"
        } else {
            "no"
        }
    };
    let (igd, pmp) = (answer(Speaks::Igd), answer(Speaks::Pmp));
    let settings = format!(
        "ext_ifname={wan}\nlistening_ip={lan}\nenable_upnp={igd}\nenable_natpmp={pmp}\n\
         ipv6_disable=yes\nsecure_mode=yes\nsystem_uptime=yes\nmin_lifetime=60\nmax_lifetime=86400\n\
         upnp_table_name=igd\nupnp_nat_table_name=igd\nupnp_forward_chain=let_in\n\
         upnp_nat_chain=turn_in\nupnp_nat_postrouting_chain=turn_out\n\
         uuid=00000000-0000-4000-8000-000000000001\n\
         allow 1024-65535 {network} 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
    );
    let file = router.directory().join("igd.conf");
    fs::write(&file, settings).unwrap();
    let program = router.command("miniupnpd").arg("-d").arg("-f").arg(&file);
    let program = program.arg("-P").arg(router.directory().join("igd.pid"));
    let mut process = program.start().unwrap_or_else(|error| {
        panic!("{error}; `.ci/run` lists the packages that tests need");
    });
    thread::sleep(START);
    let ended = process.wait(Duration::ZERO).unwrap();
    assert!(
        ended.is_none(),
        "miniupnpd ended: {ended:?} {}",
        process.stderr()
    );
    process
}

/// Where the program puts its rules. What it lets in must pass the router's own rules, too.
const CHAINS: &str = "
table inet igd
delete table inet igd
table inet igd {
    chain let_in { }
    chain turn_in { }
    chain turn_out { }
    chain forward { type filter hook forward priority -5
        jump let_in
    }
    chain come_in { type nat hook prerouting priority -105
        jump turn_in
    }
    chain go_out { type nat hook postrouting priority 95
        jump turn_out
    }
}
";
