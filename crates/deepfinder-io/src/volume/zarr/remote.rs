//! Stores over HTTP: plain GETs of public files. `s3://bucket/key` is the public address of a bucket at Amazon, or below
//! `AWS_ENDPOINT_URL` where that is set (`MinIO` and other stores); nothing is signed.

use std::collections::VecDeque;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ureq::Agent;

use super::store::Part;
use crate::{IoError, Result};

/// Bytes of files that are kept: neighbouring windows need the same chunks.
const KEPT_BYTES: usize = 256 << 20;

/// No chunk or file of metadata is larger.
const MOST_BYTES: u64 = 1 << 31;

/// Files of metadata, of which an array has some and not others.
const METADATA: [&str; 4] = ["/zarr.json", "/.zattrs", "/.zarray", "/.zgroup"];

/// Times that something is asked for: networks stutter.
const ATTEMPTS: u32 = 3;

/// A connection to a store.
#[derive(Clone)]
pub(super) struct Remote {
    agent: Agent,
    endpoint: Option<String>,
    kept: Arc<Mutex<VecDeque<Kept>>>,
}

struct Kept {
    path: PathBuf,
    part: Part,
    bytes: Option<Arc<[u8]>>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Remote {
    pub(super) fn new(path: &Path) -> Result<Self> {
        let endpoint = std::env::var("AWS_ENDPOINT_URL").ok();
        url(path, endpoint.as_deref())?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_mins(1)))
            .timeout_recv_body(Some(Duration::from_mins(10)))
            .build();
        Ok(Self {
            agent: config.new_agent(),
            endpoint,
            kept: Arc::default(),
        })
    }

    pub(super) fn read(&self, path: &Path, part: Part) -> Result<Option<Vec<u8>>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.iter().find(|kept| kept.path == path && kept.part == part) {
            return Ok(found.bytes.as_ref().map(|bytes| bytes.to_vec()));
        }
        drop(kept);
        let url = url(path, self.endpoint.as_deref())?;
        let mut attempt = 1;
        let bytes = loop {
            match self.get(&url, part) {
                Ok(bytes) => break bytes,
                Err(Failure::Passing(_)) if attempt < ATTEMPTS => {
                    std::thread::sleep(Duration::from_millis(200) * attempt);
                    attempt += 1;
                }
                Err(Failure::Passing(what) | Failure::Lasting(what)) => {
                    return Err(IoError::unsupported(path, what));
                }
            }
        };
        self.keep(path, part, bytes.as_deref());
        Ok(bytes)
    }

    fn keep(&self, path: &Path, part: Part, bytes: Option<&[u8]>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(Kept {
            path: path.to_owned(),
            part,
            bytes: bytes.map(Into::into),
        });
        let length = |kept: &Kept| kept.bytes.as_ref().map_or(0, |bytes| bytes.len());
        let mut total: usize = kept.iter().map(length).sum();
        while total > KEPT_BYTES {
            let Some(oldest) = kept.pop_front() else { break };
            total -= length(&oldest);
        }
    }

    fn get(&self, url: &str, part: Part) -> Result<Option<Vec<u8>>, Failure> {
        let mut request = self.agent.get(url);
        let range = match part {
            Part::Whole => None,
            Part::At(_, 0) | Part::Last(0) => return Ok(Some(Vec::new())),
            Part::At(start, length) => Some(format!(
                "bytes={start}-{}",
                start.saturating_add(length as u64 - 1)
            )),
            Part::Last(length) => Some(format!("bytes=-{length}")),
        };
        if let Some(range) = &range {
            request = request.header("Range", range);
        }
        let mut response = request
            .call()
            .map_err(|error| Failure::Passing(format!("the store does not answer: {error}")))?;
        let status = response.status().as_u16();
        match status {
            200 if range.is_some() => {
                return Err(Failure::Lasting(
                    "the store gives no parts of files (no answer to `Range`): copy the volume to a disk"
                        .to_owned(),
                ));
            }
            200 | 206 => {}
            404 | 410 => return Ok(None),
            // Buckets that may not be listed answer so for what is not there; which files of metadata are, is tried out.
            403 if METADATA.iter().any(|name| url.ends_with(name)) => return Ok(None),
            // Behind the end of the file.
            416 => return Ok(Some(Vec::new())),
            401 | 403 => {
                return Err(Failure::Lasting(format!(
                    "the store refuses ({status}): only public stores are read. Is the address right?"
                )));
            }
            429 | 500.. => return Err(Failure::Passing(format!("the store fails ({status})"))),
            _ => return Err(Failure::Lasting(format!("the store answers {status}"))),
        }
        let limit = match part {
            Part::Whole => MOST_BYTES,
            Part::At(_, length) | Part::Last(length) => length as u64,
        };
        let mut bytes = Vec::new();
        let reader = response.body_mut().with_config().limit(u64::MAX).reader();
        let read = reader.take(limit).read_to_end(&mut bytes);
        read.map_err(|error| Failure::Passing(format!("the store stops in the middle of a file: {error}")))?;
        Ok(Some(bytes))
    }
}

/// Why there is no answer: something that may pass, or not.
enum Failure {
    Passing(String),
    Lasting(String),
}

/// The address of a file by HTTP.
fn url(path: &Path, endpoint: Option<&str>) -> Result<String> {
    let text = path
        .to_str()
        .ok_or_else(|| IoError::unsupported(path, "this address is no text in UTF-8"))?;
    let Some(place) = text.strip_prefix("s3://") else {
        return Ok(text.to_owned());
    };
    let (bucket, key) = place.split_once('/').unwrap_or((place, ""));
    if bucket.is_empty() || key.is_empty() {
        let what = "an address in S3 is s3://BUCKET/PATH";
        return Err(IoError::unsupported(path, what));
    }
    Ok(match endpoint {
        Some(endpoint) => format!("{}/{bucket}/{key}", endpoint.trim_end_matches('/')),
        // A dot in the name would not fit the certificate for *.s3.amazonaws.com.
        None if bucket.contains('.') => format!("https://s3.amazonaws.com/{bucket}/{key}"),
        None => format!("https://{bucket}.s3.amazonaws.com/{key}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_buckets_are_addresses_by_http() {
        let of = |path: &str, endpoint: Option<&str>| url(Path::new(path), endpoint).ok();
        let check = |path: &str, endpoint: Option<&str>, expected: &str| {
            assert_eq!(of(path, endpoint).as_deref(), Some(expected));
        };
        check("s3://b/a/v.zarr/0", None, "https://b.s3.amazonaws.com/a/v.zarr/0");
        check("s3://b.org/v.zarr", None, "https://s3.amazonaws.com/b.org/v.zarr");
        check(
            "s3://b/v.zarr",
            Some("http://localhost:9000/"),
            "http://localhost:9000/b/v.zarr",
        );
        check("http://host/v.zarr/0.0.0", Some("x"), "http://host/v.zarr/0.0.0");
        assert_eq!(of("s3://bucket", None), None);
    }
}
