//! Talking to the primary server of a DNS zone: queries and updates (RFC 2136), signed by TSIG
//! (RFC 8945), over TCP.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hickory_proto::op::update_message::UpdateMessage;
use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::tsig::TsigError;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigner};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one exchange with the server may take: seconds beyond what a healthy one needs.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Why the server did not do what it was asked.
#[derive(Debug, Error)]
pub(crate) enum DnsError {
    /// It cannot be reached, or does not answer.
    #[error("{0}")]
    Away(String),
    /// It does not accept our signature.
    #[error("it does not accept the TSIG signature: {0}")]
    Signature(String),
    /// It refuses.
    #[error("it answers {0}")]
    Refused(ResponseCode),
    /// Its answer makes no sense.
    #[error("its answer makes no sense: {0}")]
    Nonsense(String),
}

/// The primary server of a zone.
pub(crate) struct Server {
    /// Its address.
    pub address: SocketAddr,
    /// The zone.
    pub zone: Name,
    /// How updates are signed.
    pub key: Option<TSigner>,
}

impl Server {
    /// The records of a name; none when there are none.
    pub async fn lookup(&self, name: &Name, kind: RecordType) -> Result<Vec<RData>, DnsError> {
        let mut message = Message::query();
        message.metadata.recursion_desired = false;
        message.add_query(Query::query(name.clone(), kind));
        let (id, bytes) = (message.id, encode(&message)?);
        let answer = decode(&self.exchange(&bytes).await?, id)?;
        match answer.response_code {
            ResponseCode::NoError => {}
            ResponseCode::NXDomain => return Ok(Vec::new()),
            code => return Err(DnsError::Refused(code)),
        }
        let ours = answer.answers.into_iter().filter(|record| record.name == *name);
        Ok(ours.map(|record| record.data).filter(|data| data.record_type() == kind).collect())
    }

    /// Makes these changes, if these prerequisites hold: one transaction of the server.
    pub async fn update(&self, ifs: Vec<Record>, changes: Vec<Record>) -> Result<(), DnsError> {
        let mut message = Message::query();
        message.metadata.op_code = OpCode::Update;
        message.metadata.recursion_desired = false;
        let mut zone = Query::query(self.zone.clone(), RecordType::SOA);
        zone.set_query_class(DNSClass::IN);
        message.add_zone(zone);
        message.add_pre_requisites(ifs);
        message.add_updates(changes);
        let nonsense = |error: hickory_proto::ProtoError| DnsError::Nonsense(error.to_string());
        let mut verifier = match &self.key {
            Some(key) => message.finalize(key, now()).map_err(nonsense)?,
            None => None,
        };
        let (id, bytes) = (message.id, encode(&message)?);
        let answered = self.exchange(&bytes).await?;
        let answer = decode(&answered, id)?;
        if let Some(error) = answer.signature().and_then(|record| record.data.error) {
            return Err(DnsError::Signature(explain(error)));
        }
        match answer.response_code {
            ResponseCode::NoError => {}
            code => return Err(DnsError::Refused(code)),
        }
        match &mut verifier {
            Some(verifier) => verifier.verify(&answered).map(drop).map_err(nonsense),
            None => Ok(()),
        }
    }

    async fn exchange(&self, message: &[u8]) -> Result<Vec<u8>, DnsError> {
        let talk = async {
            let mut stream = TcpStream::connect(self.address).await?;
            let length = u16::try_from(message.len()).map_err(std::io::Error::other)?;
            stream.write_all(&length.to_be_bytes()).await?;
            stream.write_all(message).await?;
            let length = stream.read_u16().await?;
            let mut answer = vec![0; usize::from(length)];
            stream.read_exact(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        match timeout(ANSWER_WITHIN, talk).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(DnsError::Away(error.to_string())),
            Err(_) => Err(DnsError::Away(format!("no answer within {ANSWER_WITHIN:?}"))),
        }
    }
}

fn encode(message: &Message) -> Result<Vec<u8>, DnsError> {
    message.to_vec().map_err(|error| DnsError::Nonsense(error.to_string()))
}

fn decode(bytes: &[u8], id: u16) -> Result<Message, DnsError> {
    let message =
        Message::from_vec(bytes).map_err(|error| DnsError::Nonsense(error.to_string()))?;
    if message.id != id {
        return Err(DnsError::Nonsense("it is for another question".into()));
    }
    Ok(message)
}

fn explain(error: TsigError) -> String {
    match error {
        TsigError::BadKey => "it knows no key of this name and algorithm (BADKEY)".into(),
        TsigError::BadSig => "the secret is another one there (BADSIG)".into(),
        TsigError::BadTime => "its clock and this node's differ by minutes (BADTIME)".into(),
        other => format!("error {}", u16::from(other)),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The name has no record of this kind (RFC 2136 section 2.4.3).
pub(crate) fn if_none(name: &Name, kind: RecordType) -> Record {
    let mut record = Record::update0(name.clone(), 0, kind);
    record.dns_class = DNSClass::NONE;
    record
}

/// The name has exactly this record of its kind (RFC 2136 section 2.4.2).
pub(crate) fn if_exactly(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), 0, data)
}

/// Delete the records of this kind (RFC 2136 section 2.5.2).
pub(crate) fn delete(name: &Name, kind: RecordType) -> Record {
    let mut record = Record::update0(name.clone(), 0, kind);
    record.dns_class = DNSClass::ANY;
    record
}
