//! How the server holds under load: `load TOMOGRAM [CONNECTIONS] [SECONDS]` asks for slices along all axes from so many
//! connections at once, each as soon as it has the last one, and counts what comes and what does not.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "an example talks to its terminal"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use deepfinder_core::CancelToken;
use deepfinder_studio::{Studio, StudioOptions};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What is asked, and where.
#[derive(Clone)]
struct Target {
    address: SocketAddr,
    token: String,
    name: String,
    /// `(z, y, x)`.
    shape: Vec<u64>,
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments
        .next()
        .ok_or("usage: load TOMOGRAM [CONNECTIONS] [SECONDS]")?;
    let connections: u64 = arguments.next().map_or(Ok(100), |n| n.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(30), |n| n.parse())?;
    let options = StudioOptions {
        port: 0,
        ..StudioOptions::new(Path::new(&file))
    };
    let studio = Studio::bind(&options)?;
    let mut target = Target {
        address: studio.address(),
        token: studio.token().to_owned(),
        name: Path::new(&file)
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        shape: Vec::new(),
    };
    let stop = CancelToken::default();
    let told = stop.clone();
    let serving = std::thread::spawn(move || studio.serve(&told));
    measure_slices(&mut target)?;
    let lost = load(&target, connections, seconds)?;
    stop.cancel();
    serving.join().map_err(|_| "the server failed")??;
    if lost > 0 {
        return Err(format!("{lost} requests were lost").into());
    }
    Ok(())
}

/// How long a slice takes along each axis, asked for one after the other.
fn measure_slices(target: &mut Target) -> Result<(), Error> {
    let mut connection = BufReader::new(TcpStream::connect(target.address)?);
    let info = ask(
        &mut connection,
        target,
        &format!("/api/tomograms/{}", target.name),
    )?
    .1;
    let info = String::from_utf8(info)?;
    let shape = info
        .split("\"shape_zyx\":[")
        .nth(1)
        .and_then(|rest| rest.split(']').next());
    let shape = shape.ok_or("no shape")?.split(',').map(str::parse);
    target.shape = shape.collect::<Result<_, _>>()?;
    println!("{}: {:?} voxels (z, y, x)", target.name, target.shape);
    let begun = Instant::now();
    while ask(&mut connection, target, &slice(target, 2, 0, ""))?
        .0
        .contains("x-preview: 1")
    {
        std::thread::sleep(Duration::from_millis(50));
    }
    println!(
        "ready for slices across x after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    for (axis, across) in AXES.iter().enumerate() {
        for (what, more) in [
            ("one by one", ""),
            ("averaged ± 2", "&slab=2"),
            ("binned twice", "&bin=2"),
        ] {
            let mut times = Vec::new();
            for i in 0..40 {
                let begun = Instant::now();
                let (_, body) = ask(
                    &mut connection,
                    target,
                    &slice(target, axis, target.shape[axis] / 4 + i, more),
                )?;
                assert!(!body.is_empty());
                times.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            times.sort_by(f64::total_cmp);
            let at = |part: usize| times[(times.len() - 1) * part / 100];
            println!(
                "across {across} {what}: median {:.1} ms, 95 % below {:.1} ms",
                at(50),
                at(95)
            );
        }
    }
    Ok(())
}

/// Slices from all connections at once; gives how many were lost.
fn load(target: &Target, connections: u64, seconds: u64) -> Result<u64, Error> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let workers: Vec<_> = (0..connections)
        .map(|worker| {
            let target = target.clone();
            std::thread::spawn(move || work(&target, worker, end))
        })
        .collect();
    let (mut answered, mut lost, mut bytes) = (0, 0, 0);
    for worker in workers {
        let counts = worker.join().map_err(|_| "a worker failed")?;
        answered += counts.0;
        lost += counts.1;
        bytes += counts.2;
    }
    println!(
        "{connections} connections, {seconds} s: {answered} slices ({:.0} a second, {:.1} GB), {lost} lost",
        answered as f64 / seconds as f64,
        bytes as f64 / 1e9
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(peak) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
        println!("peak memory, the {connections} clients with it: {}", peak.trim());
    }
    Ok(lost)
}

/// One client: slices answered and lost, and bytes.
fn work(target: &Target, worker: u64, end: Instant) -> (u64, u64, u64) {
    let (mut answered, mut lost, mut bytes) = (0, 0, 0);
    let mut random = worker.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut connection = TcpStream::connect(target.address).map(BufReader::new);
    while Instant::now() < end {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let axis = (random % 3) as usize;
        let path = slice(target, axis, (random >> 8) % target.shape[axis], "");
        let answer = connection
            .as_mut()
            .ok()
            .and_then(|connection| ask(connection, target, &path).ok());
        match answer {
            Some((head, body)) if head.starts_with("HTTP/1.1 200") && !body.is_empty() => {
                answered += 1;
                bytes += body.len() as u64;
            }
            _ => {
                lost += 1;
                connection = TcpStream::connect(target.address).map(BufReader::new);
            }
        }
    }
    (answered, lost, bytes)
}

const AXES: [&str; 3] = ["z", "y", "x"];

fn slice(target: &Target, axis: usize, index: u64, more: &str) -> String {
    format!(
        "/api/tomograms/{}/slice?layer=tomogram&axis={}&index={index}&low=-3&high=3{more}",
        target.name, AXES[axis]
    )
}

/// Head and body of an answer on a connection that is kept.
fn ask(
    connection: &mut BufReader<TcpStream>,
    target: &Target,
    path: &str,
) -> Result<(String, Vec<u8>), Error> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Studio-Token: {}\r\n\r\n",
        target.token
    );
    connection.get_mut().write_all(request.as_bytes())?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if connection.read_line(&mut head)? == 0 {
            return Err("the connection was closed".into());
        }
    }
    let length = head.lines().find_map(|line| {
        line.to_lowercase()
            .strip_prefix("content-length: ")
            .map(str::to_owned)
    });
    let mut body = vec![0; length.ok_or("no length")?.parse()?];
    connection.read_exact(&mut body)?;
    Ok((head, body))
}
