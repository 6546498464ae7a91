//! Stores over HTTP: a GET a file or a part of it, and in S3 a PUT.

use std::collections::VecDeque;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ureq::http::Response;
use ureq::{Agent, Body};

use super::bucket::{Access, Account, code, is_about_the_key, is_in_bucket, no_key, refusal};
use super::store::Part;
use crate::{IoError, Result};

/// Bytes of files that are kept: neighbouring windows need the same chunks.
const KEPT_BYTES: usize = 256 << 20;

/// No chunk or file of metadata is larger.
const MOST_BYTES: u64 = 1 << 31;

/// Files of metadata, of which an array has some and not others.
const METADATA: [&str; 4] = ["zarr.json", ".zattrs", ".zarray", ".zgroup"];

/// Times that something is asked for: networks stutter.
const ATTEMPTS: u32 = 3;

/// A connection to a store.
#[derive(Clone)]
pub(super) struct Remote {
    agent: Agent,
    account: Account,
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
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

impl Remote {
    pub(super) fn new(path: &Path) -> Result<Self> {
        let account = if is_in_bucket(path) {
            Account::from_environment().map_err(|what| IoError::unsupported(path, what))?
        } else {
            Account::default()
        };
        account.url(path, Access::Read)?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_mins(1)))
            .timeout_recv_body(Some(Duration::from_mins(10)))
            .timeout_send_body(Some(Duration::from_mins(10)));
        // A signature is of one address and no other.
        let config = if account.signs() {
            config.max_redirects(0)
        } else {
            config
        };
        Ok(Self {
            agent: config.build().new_agent(),
            account,
            kept: Arc::default(),
        })
    }

    /// Whether anything can be written, before long work; what is wrong else.
    pub(super) fn check_writable(&self, path: &Path) -> Result<(), String> {
        if !is_in_bucket(path) {
            return Err(
                "nothing can be written to a web address: write to a disk, or to s3://BUCKET/PATH".to_owned(),
            );
        }
        if self.account.signs() {
            return Ok(());
        }
        Err(no_key())
    }

    pub(super) fn read(&self, path: &Path, part: Part) -> Result<Option<Vec<u8>>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.iter().find(|kept| kept.path == path && kept.part == part) {
            return Ok(found.bytes.as_ref().map(|bytes| bytes.to_vec()));
        }
        drop(kept);
        let bytes = persist(path, || {
            let url = self.account.url(path, Access::Read).map_err(Failure::Address)?;
            self.get(path, &url, part)
        })?;
        self.keep(path, part, bytes.as_deref());
        Ok(bytes)
    }

    /// Puts a whole file there; what was there before is gone only when it has arrived.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        persist(path, || {
            let url = self.account.url(path, Access::Write).map_err(Failure::Address)?;
            self.put(&url, bytes)
        })
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

    fn get(&self, path: &Path, url: &str, part: Part) -> Result<Option<Vec<u8>>, Failure> {
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
        let mut response = request.call().map_err(|error| Failure::silence(&error))?;
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
            // Behind the end of the file.
            416 => return Ok(Some(Vec::new())),
            403 => {
                let answer = said(&mut response);
                // Buckets that may not be listed answer so for what is not there; which files of metadata are, is tried out.
                let is_tried = METADATA.iter().any(|name| path.ends_with(name));
                if is_tried && !is_about_the_key(&answer) {
                    return Ok(None);
                }
                return Err(Failure::Lasting(refusal(status, &answer, self.account.signs())));
            }
            _ => return Err(self.failure(status, &mut response)),
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

    fn put(&self, url: &str, bytes: &[u8]) -> Result<(), Failure> {
        let answer = self.agent.put(url).send(bytes);
        let mut response = answer.map_err(|error| Failure::silence(&error))?;
        match response.status().as_u16() {
            200..=204 => Ok(()),
            404 => Err(Failure::Lasting(
                "there is no bucket of that name (404): make it first, or check the address".to_owned(),
            )),
            status => Err(self.failure(status, &mut response)),
        }
    }

    /// What an answer means that gives nothing.
    fn failure(&self, status: u16, response: &mut Response<Body>) -> Failure {
        let header = response.headers().get("x-amz-bucket-region");
        let region = header.and_then(|region| region.to_str().ok()).map(str::to_owned);
        match (status, region) {
            (301 | 307 | 308 | 400, Some(region)) => Failure::Lasting(format!(
                "the bucket is in the region {region}: set AWS_REGION={region}"
            )),
            (401 | 403, _) => Failure::Lasting(refusal(status, &said(response), self.account.signs())),
            (429 | 500.., _) => Failure::Passing(format!("the store fails ({status})")),
            _ => {
                let answer = said(response);
                let code = code(&answer).map_or(String::new(), |code| format!(" {code}"));
                Failure::Lasting(format!("the store answers {status}{code}"))
            }
        }
    }
}

/// Does something a few times: networks stutter.
fn persist<T>(path: &Path, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
    let mut count = 1;
    loop {
        match attempt() {
            Ok(found) => return Ok(found),
            Err(Failure::Passing(_)) if count < ATTEMPTS => {
                std::thread::sleep(Duration::from_millis(200) * count);
                count += 1;
            }
            Err(Failure::Passing(what) | Failure::Lasting(what)) => {
                return Err(IoError::unsupported(path, what));
            }
            Err(Failure::Address(error)) => return Err(error),
        }
    }
}

/// The beginning of what a store says of its failure.
fn said(response: &mut Response<Body>) -> String {
    const ENOUGH: u64 = 4096;
    let mut bytes = Vec::new();
    let reader = response.body_mut().as_reader();
    // What did not come explains nothing.
    let _ = reader.take(ENOUGH).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Why there is no answer: something that may pass, or not.
enum Failure {
    Passing(String),
    Lasting(String),
    /// The address itself is wrong.
    Address(IoError),
}

impl Failure {
    fn silence(error: &ureq::Error) -> Self {
        Self::Passing(format!("the store does not answer: {error}"))
    }
}
