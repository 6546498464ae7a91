use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use deepfinder_core::CancelToken;
use deepfinder_pipeline::{Opened, open_project_or_tomogram};
use futures_util::future::{Either, select};

use crate::error::{Result, StudioError};
use crate::guard::{self, Guard};
use crate::routes;
use crate::state::App;

/// What to serve, and where.
#[derive(Debug, Clone)]
pub struct StudioOptions {
    /// A project file, a folder with one, or a tomogram.
    pub target: PathBuf,
    /// Address to listen on: that of this machine alone unless told otherwise.
    pub host: String,
    /// Port; 0 takes any that is free.
    pub port: u16,
    /// Where the network runs: `auto`, `cpu`, or `cuda:0`, ….
    pub device: String,
    /// What it computes with: `auto`, `f32` or `bf16`.
    pub precision: String,
}

impl StudioOptions {
    /// That project or tomogram, on loopback and the usual port.
    pub fn new(target: &Path) -> Self {
        Self {
            target: target.to_owned(),
            host: "127.0.0.1".to_owned(),
            port: DEFAULT_PORT,
            device: "auto".to_owned(),
            precision: "auto".to_owned(),
        }
    }
}

/// The port where none is asked for.
pub const DEFAULT_PORT: u16 = 8765;

/// Threads for requests that read and compute.
const BLOCKING_THREADS: usize = 16;

/// A server that listens and does not answer yet.
pub struct Studio {
    app: Arc<App>,
    guard: Arc<Guard>,
    listener: TcpListener,
    address: SocketAddr,
    host: String,
}

impl Studio {
    /// Opens the project or tomogram and listens.
    ///
    /// # Errors
    /// Where it cannot be opened, or the address is taken.
    pub fn bind(options: &StudioOptions) -> Result<Self> {
        let Opened {
            project,
            file,
            tomogram,
        } = open_project_or_tomogram(&options.target)?;
        // Found before the page is opened, not when a button is pressed.
        let devices = deepfinder_pipeline::device_list(&options.device)?;
        deepfinder_pipeline::precision(&options.precision, &devices[0])?;
        let listen = |port: u16| TcpListener::bind((options.host.as_str(), port));
        let listener = listen(options.port).map_err(|source| StudioError::Listen {
            host: options.host.clone(),
            port: options.port,
            source,
        })?;
        let address = listener.local_addr().map_err(StudioError::Server)?;
        listener.set_nonblocking(true).map_err(StudioError::Server)?;
        let compute = [options.device.clone(), options.precision.clone()];
        Ok(Self {
            guard: Arc::new(Guard::new(&options.host, address.port())?),
            app: Arc::new(App::new(project, file, tomogram, compute)),
            listener,
            address,
            host: options.host.clone(),
        })
    }

    /// The address to open in a browser, with its token.
    pub fn url(&self) -> String {
        let host = match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(host)) => format!("[{host}]"),
            Ok(host) if host.is_unspecified() => "localhost".to_owned(),
            _ => self.host.clone(),
        };
        format!(
            "http://{host}:{}/?token={}",
            self.address.port(),
            self.guard.token
        )
    }

    /// The token that requests must carry, for a program that asks instead of a browser (header `x-studio-token`).
    pub fn token(&self) -> &str {
        &self.guard.token
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }

    /// Answers until it is told to stop; work under way is stopped and waited for.
    ///
    /// # Errors
    /// Where the system does not let it listen any longer.
    pub fn serve(self, stop: &CancelToken) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(BLOCKING_THREADS)
            .enable_all()
            .build()
            .map_err(StudioError::Server)?;
        let app = self.app.clone();
        let served = runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(self.listener).map_err(StudioError::Server)?;
            let router = router(self.app, self.guard);
            let serving = std::future::IntoFuture::into_future(axum::serve(listener, router));
            let stopped = Box::pin(async {
                while !stop.is_cancelled() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
            match select(serving, stopped).await {
                Either::Left((served, _)) => served.map_err(StudioError::Server),
                Either::Right(_) => Ok(()),
            }
        });
        app.jobs.stop_and_wait();
        runtime.shutdown_timeout(Duration::from_secs(2));
        served
    }
}

fn router(app: Arc<App>, guard: Arc<Guard>) -> Router {
    routes::router(app).layer(middleware::from_fn_with_state(guard, guard::check))
}
