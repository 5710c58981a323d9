//! `network_name`: a name in the DNS that follows the group.
//!
//! A name server knows no leases, so the name carries its owner: the record `_baton.NAME TXT
//! "NODE EPOCH"` is compared and swapped in the same transaction as the addresses. An owner that
//! was replaced while it was frozen can neither set the name again nor delete it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use base64::Engine;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{TXT, tsig};
use hickory_proto::rr::{Name, RData, Record, RecordType, TSigner};
use model::definition::{NetworkName, ResourceKind, ResourceSpec, Tsig, TsigAlgorithm};
use model::{Epoch, NodeName};

use crate::dns::{self, DnsError, Server};
use crate::driver::{Driver, Failure, Health, Outcome};
use crate::not_mine;

/// Label of the record that says whose the name is.
const OWNER_LABEL: &str = "_baton";

/// Tries to swap the owner: each is in vain only if another node swapped meanwhile.
const SWAPS_MAX: u32 = 5;

/// How far the server's clock and ours may differ, in seconds (RFC 8945 section 10 advises it).
const FUDGE: u16 = 300;

/// Largest file that may hold a secret: a key of 64 bytes takes 88.
const SECRET_BYTES_MAX: u64 = 4096;

/// The driver of a `network_name`.
pub(crate) fn driver(spec: &ResourceSpec, node: &NodeName) -> Outcome<Arc<dyn Driver>> {
    let ResourceKind::NetworkName(named) = &spec.resource.kind else {
        return Err(not_mine(&spec.resource.kind));
    };
    let name = absolute("name", &named.name)?;
    let zone = match &named.zone {
        Some(zone) => absolute("zone", zone)?,
        None => name.base_name(),
    };
    if !zone.zone_of(&name) {
        return Err(Failure::fatal(format!("zone: {name} is not in {zone}")));
    }
    let owner = name.prepend_label(OWNER_LABEL).map_err(|error| {
        Failure::fatal(format!("name: {name} is too long for {OWNER_LABEL} before it: {error}"))
    })?;
    let given = if named.addresses.is_empty() { &spec.addresses } else { &named.addresses };
    let addresses: BTreeSet<IpAddr> = given.iter().copied().collect();
    if addresses.is_empty() {
        return Err(Failure::fatal(format!(
            "{name} has no address: write `addresses`, or let it depend on an ip_address"
        )));
    }
    Ok(Arc::new(NameDriver {
        name,
        owner,
        zone,
        addresses,
        node: node.to_string(),
        named: named.clone(),
        held: Mutex::new(None),
    }))
}

fn absolute(field: &str, text: &str) -> Outcome<Name> {
    let parsed = Name::from_str(text).map_err(|error| error.to_string());
    let mut name = parsed.map_err(|why| Failure::fatal(format!("{field}: {text:?}: {why}")))?;
    name.set_fqdn(true);
    if name.num_labels() < 1 {
        return Err(Failure::fatal(format!("{field}: {text:?} is no name")));
    }
    Ok(name)
}

struct NameDriver {
    name: Name,
    owner: Name,
    zone: Name,
    addresses: BTreeSet<IpAddr>,
    node: String,
    named: NetworkName,
    /// The owner record that we may have set.
    held: Mutex<Option<String>>,
}

#[async_trait]
impl Driver for NameDriver {
    /// A name is not on this machine: what is set may be another owner's.
    async fn probe(&self) -> Outcome<bool> {
        Ok(false)
    }

    async fn online(&self, epoch: Epoch) -> Outcome {
        let server = self.server()?;
        let mark = format!("{} {epoch}", self.node);
        for _ in 0..SWAPS_MAX {
            let before = self.owner_now(&server).await?;
            if let Some(before) = &before {
                self.refuse_newer(before, epoch)?;
            }
            *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(mark.clone());
            match self.swap(&server, before.as_deref(), &mark).await {
                Ok(()) => return Ok(()),
                // Somebody else was faster; what he wrote decides.
                Err(DnsError::Refused(ResponseCode::YXRRSet | ResponseCode::NXRRSet)) => {}
                Err(error) => return Err(self.failure("set", error)),
            }
        }
        Err(Failure::soft(format!("{} is being set by several nodes at once", self.name)))
    }

    async fn offline(&self) -> Outcome {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(mark) = held else { return Ok(()) };
        let changes = vec![
            dns::delete(&self.name, RecordType::A),
            dns::delete(&self.name, RecordType::AAAA),
            dns::delete(&self.owner, RecordType::TXT),
        ];
        match self.server()?.update(vec![dns::if_exactly(&self.owner, text(&mark))], changes).await
        {
            Ok(()) => {}
            // Another owner has set it, so ours is gone.
            Err(DnsError::Refused(ResponseCode::NXRRSet)) => {
                tracing::info!("{} has another owner by now; left as it is", self.name);
            }
            Err(error) => return Err(self.failure("delete", error)),
        }
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    /// A record that cannot be deleted harms nobody: the next owner replaces it, and its address
    /// is down. It must not hold the group where it is.
    async fn terminate(&self) -> Outcome {
        if let Err(failure) = self.offline().await {
            tracing::warn!("{failure}; it stays in the DNS until the next owner sets it");
        }
        Ok(())
    }

    async fn looks_alive(&self) -> Outcome<Health> {
        let server = self.server()?;
        let mut found = BTreeSet::new();
        for kind in [RecordType::A, RecordType::AAAA] {
            match server.lookup(&self.name, kind).await {
                Ok(records) => found.extend(records.iter().filter_map(address)),
                // Moving the group would not bring the server back.
                Err(error) => return Ok(Health::Poor(self.failure("check", error).how)),
            }
        }
        if found != self.addresses {
            return Err(Failure::soft(format!(
                "{} has the addresses {found:?} at {}, not {:?}: somebody has changed it",
                self.name, self.named.server, self.addresses
            )));
        }
        Ok(Health::Well)
    }

    async fn is_alive(&self) -> Outcome<Health> {
        self.looks_alive().await
    }
}

impl NameDriver {
    async fn owner_now(&self, server: &Server) -> Outcome<Option<String>> {
        let found = server.lookup(&self.owner, RecordType::TXT).await;
        let found = found.map_err(|error| self.failure("look up", error))?;
        let texts = found.iter().filter_map(|data| match data {
            RData::TXT(text) => Some(text.txt_data.concat()),
            _ => None,
        });
        let mut texts = texts.map(|text| String::from_utf8_lossy(&text).into_owned());
        Ok(texts.next())
    }

    fn refuse_newer(&self, owner: &str, ours: Epoch) -> Outcome {
        let (node, epoch) = owner.rsplit_once(' ').unwrap_or((owner, ""));
        match epoch.parse::<u64>() {
            Ok(theirs) if theirs > ours.0 => Err(Failure::soft(format!(
                "{} belongs to node {node} under epoch {theirs}, which is newer than ours, {ours}; \
                 if that cluster is no more, delete {} TXT",
                self.name, self.owner
            ))),
            _ => Ok(()),
        }
    }

    async fn swap(
        &self,
        server: &Server,
        before: Option<&str>,
        mark: &str,
    ) -> Result<(), DnsError> {
        let condition = match before {
            Some(before) => dns::if_exactly(&self.owner, text(before)),
            None => dns::if_none(&self.owner, RecordType::TXT),
        };
        let seconds = u32::try_from(self.named.time_to_live.0 / 1000).unwrap_or(u32::MAX);
        let mut changes = vec![
            dns::delete(&self.name, RecordType::A),
            dns::delete(&self.name, RecordType::AAAA),
            dns::delete(&self.owner, RecordType::TXT),
            Record::from_rdata(self.owner.clone(), seconds, text(mark)),
        ];
        changes.extend(self.addresses.iter().map(|address| {
            let data = match *address {
                IpAddr::V4(address) => RData::A(address.into()),
                IpAddr::V6(address) => RData::AAAA(address.into()),
            };
            Record::from_rdata(self.name.clone(), seconds, data)
        }));
        server.update(vec![condition], changes).await
    }

    fn server(&self) -> Outcome<Server> {
        let key = self.named.tsig.as_ref().map(signer).transpose()?;
        Ok(Server { address: self.named.server, zone: self.zone.clone(), key })
    }

    fn failure(&self, verb: &str, error: DnsError) -> Failure {
        let how = format!("cannot {verb} {} at {}: {error}", self.name, self.named.server);
        let key = self.named.tsig.as_ref().map_or("no key", |tsig| tsig.key.as_str());
        match error {
            DnsError::Signature(_) => Failure::hard(format!(
                "{how}; compare tsig.key, tsig.algorithm and the secret on this node with it"
            )),
            DnsError::Refused(ResponseCode::NotAuth | ResponseCode::NotZone) => {
                Failure::fatal(format!(
                    "{how}: it is not the primary of zone {}; mend `zone` or `server`",
                    self.zone
                ))
            }
            DnsError::Refused(ResponseCode::Refused) => Failure::hard(format!(
                "{how}: it does not let {key} change it; grant A, AAAA of {} and TXT of {}",
                self.name, self.owner
            )),
            DnsError::Away(_) | DnsError::Refused(_) | DnsError::Nonsense(_) => Failure::soft(how),
        }
    }
}

fn text(mark: &str) -> RData {
    RData::TXT(TXT::new(vec![mark.to_owned()]))
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}

fn signer(key: &Tsig) -> Outcome<TSigner> {
    let path = key.secret_file.display();
    let text = read_secret(&key.secret_file).map_err(|error| {
        Failure::hard(format!("cannot read the TSIG secret in {path}: {error}"))
    })?;
    let line = text.lines().next().unwrap_or_default().trim();
    let secret = base64::engine::general_purpose::STANDARD.decode(line);
    let secret = secret.ok().filter(|secret| !secret.is_empty()).ok_or_else(|| {
        Failure::hard(format!("the first line of {path} is no TSIG secret in base64"))
    })?;
    let algorithm = match key.algorithm {
        TsigAlgorithm::HmacSha256 => tsig::TsigAlgorithm::HmacSha256,
        TsigAlgorithm::HmacSha384 => tsig::TsigAlgorithm::HmacSha384,
        TsigAlgorithm::HmacSha512 => tsig::TsigAlgorithm::HmacSha512,
    };
    let name = absolute("tsig.key", &key.key)?;
    TSigner::new(secret, algorithm, name, FUDGE)
        .map_err(|error| Failure::hard(format!("the TSIG key {} cannot be used: {error}", key.key)))
}

fn read_secret(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(SECRET_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}
