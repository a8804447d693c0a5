//! The daemon's loop without a node: it answers that there is no network.

use crate::config::DaemonConfig;
use crate::control::Request;
use crate::control::Response;
use crate::control::server::Server;
use crate::failure::Failure;

/// Serves the control socket until it is told to stop.
pub(crate) fn run(config: DaemonConfig) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::world("cannot start the runtime", &error))?;
    runtime.block_on(async {
        let mut server = Server::bind(&config.socket, config.operator)?;
        tracing::info!("control socket is open");
        loop {
            let call = server.accept().await?;
            if call.request == Request::Stop {
                let _ = call.send(Response::Done);
                call.finish().await;
                return Ok(());
            }
            let _ = call.send(Response::Failed(Failure::no_network()));
        }
    })
}
