//! Volumes in a store that speaks S3, which is a small server of this test: it checks signatures by itself, and fails when told.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use deepfinder_core::{Volume, VoxelSize};
use deepfinder_tests::{Bench, Finished};
use hmac::{Hmac, KeyInit, Mac};
use ndarray::Array3;
use sha2::{Digest, Sha256};

const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const BUCKET: &str = "tomograms";

/// The bucket of a store, until the test ends.
#[derive(Clone, Default)]
struct Store {
    address: String,
    content: Arc<Mutex<Content>>,
}

#[derive(Default)]
struct Content {
    files: BTreeMap<String, Vec<u8>>,
    /// In the order in which they came.
    written: Vec<String>,
    /// Files that are still taken; none for all.
    room: Option<usize>,
}

impl Store {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let store = Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            ..Self::default()
        };
        let own = store.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, own) = (stream.unwrap(), own.clone());
                std::thread::spawn(move || own.serve(&stream));
            }
        });
        store
    }

    /// Answers requests until the other side is done.
    fn serve(&self, mut stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some(request) = Request::read(&mut reader) {
            let (status, body) = match self.answer(&request) {
                Ok(body) => (200, body),
                Err((status, code)) => {
                    let answer = format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code></Error>");
                    (status, answer.into_bytes())
                }
            };
            let head = format!("HTTP/1.1 {status} -\r\nContent-Length: {}\r\n\r\n", body.len());
            if stream.write_all(head.as_bytes()).is_err() || stream.write_all(&body).is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: &Request) -> Result<Vec<u8>, (u16, &'static str)> {
        request.check_signature()?;
        let place = request.path.strip_prefix('/').unwrap();
        let key = place
            .strip_prefix(BUCKET)
            .and_then(|key| key.strip_prefix('/'))
            .ok_or((404, "NoSuchBucket"))?;
        let mut content = self.content.lock().unwrap();
        if request.method == "GET" {
            return content.files.get(key).cloned().ok_or((404, "NoSuchKey"));
        }
        assert_eq!(request.method, "PUT");
        match &mut content.room {
            Some(0) => return Err((403, "AccessDenied")),
            Some(room) => *room -= 1,
            None => {}
        }
        content.written.push(key.to_owned());
        content.files.insert(key.to_owned(), request.body.clone());
        Ok(Vec::new())
    }

    /// Runs the program with these values of the key and its secret.
    fn run_as(&self, bench: &Bench, key: Option<&str>, secret: Option<&str>, arguments: &str) -> Finished {
        let mut variables = vec![("AWS_ENDPOINT_URL", Some(self.address.as_str()))];
        variables.extend([("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret)]);
        variables.extend([("AWS_SESSION_TOKEN", None), ("AWS_REGION", Some("eu-west-1"))]);
        bench.run_with(&variables, arguments)
    }

    fn run(&self, bench: &Bench, arguments: &str) -> Finished {
        self.run_as(bench, Some(KEY), Some(SECRET), arguments)
    }
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    host: String,
    body: Vec<u8>,
}

impl Request {
    fn read(reader: &mut impl BufRead) -> Option<Self> {
        let mut lines = reader.by_ref().lines().map_while(Result::ok);
        let first = lines.next()?;
        let mut words = first.split(' ');
        let (method, place) = (words.next()?.to_owned(), words.next()?);
        let (path, query) = place.split_once('?').unwrap_or((place, ""));
        let query = query.split('&').filter_map(|part| part.split_once('='));
        let query = query.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (path, query) = (path.to_owned(), query.collect());
        let headers: BTreeMap<String, String> = lines
            .take_while(|line| !line.is_empty())
            .filter_map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_ascii_lowercase(), value.trim().to_owned()))
            })
            .collect();
        let length = headers.get("content-length").map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Self {
            method,
            path,
            query,
            host: headers.get("host")?.clone(),
            body,
        })
    }

    /// Signature Version 4 in the query, as Amazon's documents define it.
    fn check_signature(&self) -> Result<(), (u16, &'static str)> {
        let of = |name: &str| self.query.get(name).ok_or((403, "AccessDenied"));
        let (signature, date) = (of("X-Amz-Signature")?, of("X-Amz-Date")?);
        let credential = of("X-Amz-Credential")?.replace("%2F", "/");
        let (key, scope) = credential.split_once('/').unwrap();
        if key != KEY {
            return Err((403, "InvalidAccessKeyId"));
        }
        assert_eq!(scope, format!("{}/eu-west-1/s3/aws4_request", &date[..8]));
        assert_eq!(
            (
                of("X-Amz-Algorithm")?.as_str(),
                of("X-Amz-SignedHeaders")?.as_str()
            ),
            ("AWS4-HMAC-SHA256", "host")
        );
        let signed = self.query.iter().filter(|(name, _)| *name != "X-Amz-Signature");
        let signed: Vec<String> = signed.map(|(name, value)| format!("{name}={value}")).collect();
        let canonical = format!(
            "{}\n{}\n{}\nhost:{}\n\nhost\nUNSIGNED-PAYLOAD",
            self.method,
            self.path,
            signed.join("&"),
            self.host
        );
        let text = format!(
            "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
            hexadecimal(&Sha256::digest(canonical))
        );
        let mut chain = format!("AWS4{SECRET}").into_bytes();
        for part in scope.split('/').chain([text.as_str()]) {
            let mut mac = Hmac::<Sha256>::new_from_slice(&chain).unwrap();
            mac.update(part.as_bytes());
            chain = mac.finalize().into_bytes().to_vec();
        }
        if *signature == hexadecimal(&chain) {
            Ok(())
        } else {
            Err((403, "SignatureDoesNotMatch"))
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<Vec<_>>().concat()
}

/// A volume of two chunks along x.
fn bench_with_volume() -> Bench {
    let bench = Bench::default();
    let voxels = Array3::from_shape_fn((5, 6, 130), |(z, y, x)| (1000 * z + 140 * y + x) as f32);
    let volume = Volume::new(voxels).with_voxel_size(VoxelSize::new(13.5).ok());
    deepfinder_io::write_volume(&bench.path("v.mrc"), &volume).unwrap();
    bench
}

#[test]
fn a_volume_goes_to_a_private_bucket_and_comes_back() {
    let (bench, store) = (bench_with_volume(), Store::start());
    bench.run("convert v.mrc direct.npy").success();
    for (version, last) in [("0.4", ".zattrs"), ("0.5", "zarr.json")] {
        let place = format!("s3://{BUCKET}/a folder/{version}.zarr").replace(' ', "+");
        store
            .run(&bench, &format!("convert v.mrc {place} --ome-zarr {version}"))
            .success();
        let info = store.run(&bench, &format!("info {place} --json")).success();
        assert!(info.contains("13.5") && info.contains("130"), "{info}");
        store.run(&bench, &format!("convert {place} back.npy")).success();
        assert_eq!(
            std::fs::read(bench.path("back.npy")).unwrap(),
            std::fs::read(bench.path("direct.npy")).unwrap()
        );
        // Metadata come after all chunks, and what makes it a volume comes last.
        let written = std::mem::take(&mut store.content.lock().unwrap().written);
        let is_chunk = |name: &String| !name.ends_with("zarr.json") && !name.contains("/.z");
        let chunks = written.iter().filter(|name| is_chunk(name)).count();
        assert_eq!(chunks, 2 + 1 + 1);
        assert!(written[..chunks].iter().all(is_chunk), "{written:?}");
        assert!(
            written.last().unwrap().ends_with(&format!(".zarr/{last}")),
            "{written:?}"
        );

        store
            .run(&bench, &format!("convert v.mrc {place}"))
            .refused(&["there is a volume of that name"]);
        assert_eq!(store.content.lock().unwrap().written, Vec::<String>::new());
    }
}

#[test]
fn what_was_cut_off_is_no_volume() {
    let (bench, store) = (bench_with_volume(), Store::start());
    for version in ["0.4", "0.5"] {
        let place = format!("s3://{BUCKET}/{version}.zarr");
        let convert = format!("convert v.mrc {place} --ome-zarr {version}");
        // Chunks, the metadata of three levels, those of the whole.
        let all = 4 + 3 + if version == "0.4" { 2 } else { 1 };
        for room in 0..all {
            store.content.lock().unwrap().room = Some(room);
            store.run(&bench, &convert).refused(&[
                "403 AccessDenied",
                "AWS_ACCESS_KEY_ID",
                "read as no volume",
            ]);
            store
                .run(&bench, &format!("info {place}"))
                .refused(&["no Zarr array"]);
        }
        store.content.lock().unwrap().room = None;
        store.run(&bench, &convert).success();
        store.run(&bench, &format!("info {place}")).success();
    }
}

#[test]
fn what_is_wrong_with_a_key_or_a_bucket_is_said() {
    let (bench, store) = (bench_with_volume(), Store::start());
    let write = format!("convert v.mrc s3://{BUCKET}/v.zarr");
    let read = format!("info s3://{BUCKET}/v.zarr");
    store
        .run_as(&bench, None, None, &write)
        .refused(&["takes a key", "AWS_ACCESS_KEY_ID"]);
    store
        .run_as(&bench, None, None, &read)
        .refused(&["not public", "AWS_ACCESS_KEY_ID"]);
    for arguments in [&read, &write] {
        store
            .run_as(&bench, Some(KEY), None, arguments)
            .refused(&["AWS_SECRET_ACCESS_KEY is not"]);
        store
            .run_as(&bench, Some("AKIDOTHER"), Some(SECRET), arguments)
            .refused(&["does not know the key"]);
        store
            .run_as(&bench, Some(KEY), Some("guessed"), arguments)
            .refused(&["the secret does not belong to the key"]);
    }
    store
        .run(&bench, "convert v.mrc s3://elsewhere/v.zarr")
        .refused(&["no bucket of that name"]);
    store
        .run(&bench, &format!("info s3://{BUCKET}/none.zarr"))
        .refused(&["no Zarr array"]);
    store
        .run(&bench, &format!("convert v.mrc {}/v.zarr", store.address))
        .refused(&["web address"]);
    assert_eq!(store.content.lock().unwrap().files.len(), 0);
}
