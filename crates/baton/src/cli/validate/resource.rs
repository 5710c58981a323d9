//! Tests of what resources need on this machine before they can come online here.
//!
//! Nothing is started: an agent is asked for its meta-data and to validate its parameters, both of
//! which change nothing by the OCF's own rules; an address is looked for, not taken.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use model::definition::{IpAddress, NetworkName, Ocf, Process, Resource, ResourceKind, Systemd};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::process::Command;
use tokio::time::timeout;

use super::judge::{Attempt, Judgement};
use super::scene::Scene;

/// Longest run of an agent's action or of busctl: OCF's own least advice for meta-data is 5 s.
const COMMAND_MAX: Duration = Duration::from_secs(20);

/// Most of a command's output that is read; meta-data of the longest agent has 60 KiB.
const OUTPUT_BYTES_MAX: u64 = 1024 * 1024;

/// The kernel asks three times, a second apart, before it says that nobody has an address.
const NEIGHBOUR_MAX: Duration = Duration::from_secs(5);

/// Longest wait for the answer of a DNS server.
const DNS_MAX: Duration = Duration::from_secs(5);

/// The number of our question; there is one on a connection.
const DNS_QUESTION: u16 = 1;

/// The discard port: whatever its answer, somebody is there.
const DISCARD: u16 = 9;

/// One attempt for each resource of a kind.
fn of_kind<'a, K: Clone + 'a>(
    scene: &'a Scene,
    of: impl Fn(&'a ResourceKind) -> Option<&'a K> + 'a,
    attempt: impl Fn(String, &'a Resource, K) -> Attempt + 'a,
) -> Vec<Attempt> {
    let here = scene.resources_here().filter_map(|resource| {
        let setting = of(&resource.kind)?.clone();
        let subject = format!("{} {}", resource.kind.as_str(), resource.name);
        Some(attempt(subject, resource, setting))
    });
    here.collect()
}

/// Programs of `process` resources.
pub fn processes(scene: &Scene) -> Vec<Attempt> {
    fn of(kind: &ResourceKind) -> Option<&Process> {
        match kind {
            ResourceKind::Process(setting) => Some(setting),
            _ => None,
        }
    }
    of_kind(scene, of, |subject, _, setting| {
        Attempt::blocking(subject, move |subject| process_fits(subject, &setting))
    })
}

fn process_fits(subject: String, process: &Process) -> Judgement {
    if let Some(folder) = process.folder.as_ref().filter(|folder| !folder.is_dir()) {
        let what = format!("its folder {} is not there", folder.display());
        return Judgement::failed(subject, what, "make it, or name another");
    }
    let commands =
        [&process.command, &process.ready_check, &process.looks_alive, &process.is_alive];
    let folder = process.folder.as_deref().unwrap_or(Path::new("/"));
    let mut found = Vec::new();
    for program in commands.into_iter().filter_map(|command| command.first()) {
        match program_of(program, folder) {
            Ok(path) => found.push(path.display().to_string()),
            Err(why) => {
                let remedy = format!("install {program} on this node, and let us execute it");
                return Judgement::failed(subject, format!("{program}: {why}"), remedy);
            }
        }
    }
    found.dedup();
    Judgement::passed(subject, format!("{} may be executed", found.join(", ")))
}

/// Where a program is, as the kernel and `execvp` would find it.
fn program_of(program: &str, folder: &Path) -> Result<PathBuf, String> {
    let candidates: Vec<PathBuf> = if program.contains('/') {
        vec![folder.join(program)]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|folder| folder.join(program)).collect()
    };
    let Some(path) = candidates.into_iter().find(|path| path.is_file()) else {
        return Err("there is no such program".into());
    };
    match accessat(CWD, &path, Access::EXEC_OK, AtFlags::EACCESS) {
        Ok(()) => Ok(path),
        Err(error) => Err(format!("user {} may not execute it: {error}", super::machine::me())),
    }
}

/// Units of systemd.
pub fn units(scene: &Scene) -> Vec<Attempt> {
    fn of(kind: &ResourceKind) -> Option<&Systemd> {
        match kind {
            ResourceKind::Systemd(setting) => Some(setting),
            _ => None,
        }
    }
    of_kind(scene, of, |subject, _, setting| {
        Attempt::new(subject.clone(), unit_exists(subject, setting))
    })
}

async fn unit_exists(subject: String, setting: Systemd) -> Judgement {
    let Systemd { unit, bus } = setting;
    let manager = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1"];
    let address = bus.map(|bus| format!("--address={bus}"));
    let ask = async |arguments: &[&str]| {
        let mut command = Command::new("busctl");
        command.args(&address).args(arguments);
        told(command).await
    };
    // It reads the unit's file, if that was not read before; it starts nothing.
    let load = ["call", manager[0], manager[1], "org.freedesktop.systemd1.Manager", "LoadUnit"];
    let loaded = match ask(&[&load[..], &["s", &unit]].concat()).await {
        Ok(loaded) => loaded,
        Err(why) => {
            let remedy = "run Baton where systemd is the service manager, or use kind `process`";
            return Judgement::failed(subject, format!("systemd does not answer: {why}"), remedy);
        }
    };
    let path = loaded.split('"').nth(1).unwrap_or_default().to_owned();
    let interface = "org.freedesktop.systemd1.Unit";
    let states = ["LoadState", "UnitFileState"];
    let property = ["get-property", manager[0], &path, interface, states[0], states[1]];
    let states = match ask(&property).await {
        Ok(states) => states,
        Err(why) => return Judgement::failed(subject, why, "look at the unit: systemctl status"),
    };
    let words: Vec<&str> = states.lines().filter_map(|line| line.split('"').nth(1)).collect();
    judge_unit(subject, &unit, words.first().unwrap_or(&""), words.get(1).unwrap_or(&""))
}

fn judge_unit(subject: String, unit: &str, load: &str, file: &str) -> Judgement {
    match (load, file) {
        ("loaded", "enabled" | "enabled-runtime") => Judgement::warning(
            subject,
            format!("{unit} is enabled, so the machine starts it without asking the cluster"),
            format!("systemctl disable {unit}"),
        ),
        ("loaded", _) => Judgement::passed(subject, format!("{unit} is there, {file}")),
        ("masked", _) => {
            let remedy = format!("systemctl unmask {unit}");
            Judgement::failed(subject, format!("{unit} is masked"), remedy)
        }
        (load, _) => Judgement::failed(
            subject,
            format!("there is no usable unit {unit}: {load}"),
            "install what brings the unit on this node, then systemctl daemon-reload",
        ),
    }
}

/// OCF agents.
pub fn agents(scene: &Scene) -> Vec<Attempt> {
    fn of(kind: &ResourceKind) -> Option<&Ocf> {
        match kind {
            ResourceKind::Ocf(setting) => Some(setting),
            _ => None,
        }
    }
    of_kind(scene, of, |subject, resource, setting| {
        let name = resource.name.to_string();
        Attempt::new(subject.clone(), agent_accepts(subject, name, setting))
    })
}

async fn agent_accepts(subject: String, name: String, ocf: Ocf) -> Judgement {
    let Some((provider, kind)) = ocf.agent.split_once(':') else {
        let what = format!("{:?} names no agent", ocf.agent);
        return Judgement::failed(subject, what, "write it as provider:type, heartbeat:IPaddr2");
    };
    let path = ocf.root.join("resource.d").join(provider).join(kind);
    if let Err(why) = program_of(&path.to_string_lossy(), Path::new("/")) {
        let remedy = "install the package that brings it (Debian: resource-agents) on this node";
        return Judgement::failed(subject, format!("{}: {why}", path.display()), remedy);
    }
    let command = |action: &str| {
        let mut command = Command::new(&path);
        command
            .arg(action)
            .env("OCF_ROOT", &ocf.root)
            .env("OCF_RESOURCE_INSTANCE", &name)
            .env("OCF_RESOURCE_TYPE", kind)
            .env("OCF_RESOURCE_PROVIDER", provider)
            .env("OCF_RA_VERSION_MAJOR", "1")
            .env("OCF_RA_VERSION_MINOR", "1");
        for (name, value) in &ocf.parameters {
            command.env(format!("OCF_RESKEY_{name}"), value);
        }
        command
    };
    match told(command("meta-data")).await {
        Ok(meta) if is_meta_data(&meta) => {}
        Ok(_) => {
            let what = format!("the meta-data of {} are no OCF meta-data", ocf.agent);
            return Judgement::failed(subject, what, "update the agent");
        }
        Err(why) => {
            let what = format!("{} gives no meta-data: {why}", ocf.agent);
            return Judgement::failed(subject, what, "run it by hand: meta-data");
        }
    }
    let output = match run(command("validate-all")).await {
        Ok(output) => output,
        Err(why) => {
            let what = format!("validate-all of {}: {why}", ocf.agent);
            return Judgement::failed(subject, what, "run it by hand to see where it hangs");
        }
    };
    judge_validation(subject, &ocf.agent, output.status.code(), &complaint(&output))
}

fn is_meta_data(text: &str) -> bool {
    // Debian's agents name a DTD, which we do not need and must not fetch.
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    roxmltree::Document::parse_with_options(text, options)
        .is_ok_and(|document| document.root_element().has_tag_name("resource-agent"))
}

/// What an exit code of `validate-all` means (OCF resource agent API 1.1, section 5.2).
fn judge_validation(subject: String, agent: &str, code: Option<i32>, said: &str) -> Judgement {
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    let (what, remedy) = match code {
        Some(0) => {
            return Judgement::passed(subject, format!("{agent} accepts its parameters"));
        }
        Some(3) => {
            let what = format!("{agent} cannot validate its parameters");
            return Judgement::passed(subject, what);
        }
        Some(2 | 6) => ("its parameters are wrong", "mend `parameters` in the definition"),
        Some(4) => ("a permission is missing", "give this user what the agent says"),
        Some(5) => ("something that it needs is not installed", "install it on this node"),
        Some(_) | None => ("it fails", "run its validate-all by hand"),
    };
    let code = code.map_or("no exit code".to_owned(), |code| format!("exit code {code}"));
    Judgement::failed(subject, format!("{agent} says that {what} ({code}){said}"), remedy)
}

/// Addresses of groups.
pub fn addresses(scene: &Scene) -> Vec<Attempt> {
    fn of(kind: &ResourceKind) -> Option<&IpAddress> {
        match kind {
            ResourceKind::IpAddress(setting) => Some(setting),
            _ => None,
        }
    }
    of_kind(scene, of, |subject, resource, setting| {
        let owner = scene.owner(&resource.group).map(ToString::to_string);
        Attempt::new(subject.clone(), address_is_ours(subject, setting, owner))
    })
}

async fn address_is_ours(subject: String, setting: IpAddress, owner: Option<String>) -> Judgement {
    let text = &setting.address;
    let (ip, length) = text.split_once('/').unwrap_or((text, ""));
    let Some((ip, length)) = ip.parse().ok().zip(length.parse().ok()) else {
        let remedy = "write it with the length of its network, as 192.0.2.10/24";
        return Judgement::failed(subject, format!("{text:?} is no address"), remedy);
    };
    if let Some(interface) = &setting.interface {
        if !Path::new("/sys/class/net").join(interface).exists() {
            let what = format!("this machine has no interface {interface}");
            return Judgement::failed(subject, what, "name one that all possible owners have");
        }
    } else if !is_in_a_network(ip, length) {
        let what = format!("no interface of this machine is in the network of {text}");
        let remedy = "give one of its interfaces an address there, or name the `interface`";
        return Judgement::failed(subject, what, remedy);
    }
    if let Some(owner) = owner {
        return Judgement::passed(subject, format!("{ip} fits here; {owner} has it now"));
    }
    match somebody_has(ip).await {
        None => Judgement::passed(subject, format!("{ip} fits here, and nobody answers for it")),
        Some(how) => Judgement::failed(
            subject,
            format!("{ip} is on the network already, though no node owns its group: {how}"),
            "find the machine that has it and take the address off it, or choose another",
        ),
    }
}

/// Whether an interface is in the network of an address, by the kernel's tables of routes.
fn is_in_a_network(ip: IpAddr, length: u8) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
            routes_v4(&routes).any(|(network, mask)| u32::from(ip) & mask == network && mask != 0)
        }
        IpAddr::V6(ip) => {
            let routes = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
            let shift = 128 - u32::from(length.min(128));
            let wanted = u128::from(ip).checked_shr(shift);
            let mut networks = routes.lines().filter_map(|line| {
                let network = u128::from_str_radix(line.get(..32)?, 16).ok()?;
                let bits = u8::from_str_radix(line.get(33..35)?, 16).ok()?;
                Some((network, bits))
            });
            networks.any(|(network, bits)| {
                bits == length && bits > 0 && network.checked_shr(shift) == wanted
            })
        }
    }
}

/// Networks that interfaces are in: those that no gateway leads to.
fn routes_v4(table: &str) -> impl Iterator<Item = (u32, u32)> + '_ {
    table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // The kernel prints them as they are in memory.
        let field = |place: usize| u32::from_str_radix(fields.get(place)?, 16).ok().map(u32::to_be);
        (field(2)? == 0).then_some((field(1)?, field(7)?))
    })
}

/// How somebody shows to have an address; none when nobody does. The kernel asks the neighbours
/// (ARP, or neighbour discovery) and knows better than any answer at a higher level.
async fn somebody_has(ip: IpAddr) -> Option<String> {
    if UdpSocket::bind((ip, 0)).await.is_ok() {
        return Some("this machine has it".into());
    }
    match timeout(NEIGHBOUR_MAX, TcpStream::connect((ip, DISCARD))).await {
        Ok(Ok(_)) => Some("it takes connections".into()),
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
            Some("it refuses connections".into())
        }
        Ok(Err(_)) => None,
        Err(_) => Some("it answers neighbours, and drops connections".into()),
    }
}

/// DNS servers.
pub fn names(scene: &Scene) -> Vec<Attempt> {
    fn of(kind: &ResourceKind) -> Option<&NetworkName> {
        match kind {
            ResourceKind::NetworkName(setting) => Some(setting),
            _ => None,
        }
    }
    of_kind(scene, of, |subject, _, setting| {
        Attempt::new(subject.clone(), server_answers(subject, setting))
    })
}

async fn server_answers(subject: String, setting: NetworkName) -> Judgement {
    let NetworkName { name, zone, server, .. } = setting;
    let parent = || name.split_once('.').map_or(name.clone(), |(_, rest)| rest.to_owned());
    let zone = zone.unwrap_or_else(parent);
    let remedy = "look at the server and at firewalls on the way (port 53, TCP)";
    let answer = match ask_for_zone(server, &zone).await {
        Ok(answer) => answer,
        Err(why) => {
            return Judgement::failed(subject, format!("DNS server {server}: {why}"), remedy);
        }
    };
    match answer {
        Answer { code: 0, authoritative: true } => {
            Judgement::passed(subject, format!("{server} has authority over {zone}"))
        }
        Answer { code: 0, authoritative: false } => Judgement::failed(
            subject,
            format!("{server} answers for {zone}, but without authority over it"),
            "name the zone's primary server, and its zone",
        ),
        Answer { code, .. } => Judgement::failed(
            subject,
            format!("{server} refuses to answer for {zone} (RCODE {code})"),
            "let it serve the zone, and answer this machine",
        ),
    }
}

/// What of a DNS answer matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answer {
    code: u8,
    authoritative: bool,
}

/// Asks over TCP, as updates go (RFC 1035 section 4.2.2: the length stands before the message).
async fn ask_for_zone(server: SocketAddr, zone: &str) -> Result<Answer, String> {
    let question = soa_question(DNS_QUESTION, zone).ok_or("its zone is no name")?;
    let length = u16::try_from(question.len()).map_err(|_| "its zone is too long")?;
    let asked = async {
        let mut socket = TcpStream::connect(server).await?;
        socket.write_all(&[&length.to_be_bytes()[..], &question].concat()).await?;
        let mut reply = vec![0; usize::from(socket.read_u16().await?)];
        socket.read_exact(&mut reply).await?;
        Ok::<_, std::io::Error>(reply)
    };
    match timeout(DNS_MAX, asked).await {
        Err(_) => Err(format!("no answer within {DNS_MAX:?}")),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(reply)) => answer_of(&reply, DNS_QUESTION).ok_or("its answer is none".into()),
    }
}

/// A question for the SOA of a zone (RFC 1035 section 4.1).
fn soa_question(id: u16, zone: &str) -> Option<Vec<u8>> {
    let mut question = id.to_be_bytes().to_vec();
    question.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in zone.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        question.push(length);
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 6, 0, 1]);
    Some(question)
}

fn answer_of(reply: &[u8], id: u16) -> Option<Answer> {
    let head: [u8; 4] = reply.get(..4)?.try_into().ok()?;
    let is_answer = head[..2] == id.to_be_bytes() && head[2] & 0x80 != 0;
    is_answer.then_some(Answer { code: head[3] & 0x0f, authoritative: head[2] & 0x04 != 0 })
}

/// What a command printed, if it succeeded.
async fn told(command: Command) -> Result<String, String> {
    let output = run(command).await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{}: {}", output.status, complaint(&output)))
}

/// The last line that a command complained with.
fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

/// Runs a command to its end, in a process group that is ended with it: within a limit of time, and
/// of what is kept of its output.
async fn run(mut command: Command) -> Result<Output, String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true).process_group(0).current_dir("/");
    let program = command.as_std().get_program().as_bytes().escape_ascii().to_string();
    let mut child = command.spawn().map_err(|error| format!("cannot run {program}: {error}"))?;
    let group = child.id();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let whole = async {
        let (stdout, stderr, status) =
            tokio::join!(read_some(stdout), read_some(stderr), child.wait());
        let status = status.map_err(|error| error.to_string())?;
        Ok(Output { status, stdout, stderr })
    };
    let ended = timeout(COMMAND_MAX, whole).await;
    let group = group.and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
    if let Some(group) = group {
        // What it left behind; most often nothing.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    ended.unwrap_or_else(|_| Err(format!("{program} did not end within {COMMAND_MAX:?}")))
}

/// Reads to the end, and keeps the first of it.
async fn read_some(from: Option<impl tokio::io::AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut from) = from else { return kept };
    // What was read before an error is worth showing.
    let _ = (&mut from).take(OUTPUT_BYTES_MAX).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    kept
}

#[cfg(test)]
mod checks {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;
    use store::FindingResult::{self, Failed, Passed, Warning};

    use super::*;

    #[test]
    fn programs_must_be_there_and_executable() {
        let judged = |command: &str, folder: &str| {
            let process = json!({"command": [command], "folder": folder, "is_alive": ["true"]});
            let process = serde_json::from_value(process).expect("a process");
            process_fits("process x".into(), &process)
        };
        assert_eq!(judged("sh", "/").result, Passed);
        assert_eq!(judged("/bin/sh", "/").result, Passed);
        assert!(judged("sh", "/nowhere").what.contains("folder /nowhere is not there"));
        assert!(judged("no-such-program", "/").what.contains("there is no such program"));
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("x"), "").expect("written");
        let judgement = judged("./x", &folder.path().display().to_string());
        assert!(judgement.what.contains("may not execute it"), "{judgement:?}");
    }

    /// An agent that does this for `meta-data`, and this for `validate-all`.
    async fn agent(meta: &str, validate: &str) -> Judgement {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("resource.d/test");
        std::fs::create_dir_all(&folder).expect("made");
        let path = folder.join("agent");
        let script = format!(
            "#!/bin/sh\ncase $1 in\nmeta-data) {meta};;\nvalidate-all) {validate};;\nesac\n"
        );
        std::fs::write(&path, script).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
        let ocf = json!({"agent": "test:agent", "root": root.path(), "parameters": {"p": "v"}});
        let ocf = serde_json::from_value(ocf).expect("an agent");
        agent_accepts("ocf x".into(), "x".into(), ocf).await
    }

    const META: &str = "echo '<?xml version=\"1.0\"?><!DOCTYPE resource-agent SYSTEM \
                        \"ra-api-1.dtd\"><resource-agent name=\"agent\"/>'";

    #[tokio::test]
    async fn agents_must_accept_their_parameters() {
        let check = |judgement: Judgement, result: FindingResult, words: &str| {
            assert!(judgement.result == result && judgement.what.contains(words), "{judgement:?}");
        };
        let names = "[ \"$OCF_RESKEY_p$OCF_RESOURCE_INSTANCE\" = vx ]";
        check(agent(META, names).await, Passed, "accepts its parameters");
        check(agent(META, "exit 3").await, Passed, "cannot validate");
        check(
            agent(META, "echo 'no p' >&2; exit 6").await,
            Failed,
            "are wrong (exit code 6): no p",
        );
        check(agent(META, "exit 5").await, Failed, "not installed");
        check(agent("echo hello", "exit 0").await, Failed, "no OCF meta-data");
        check(agent("exit 1", "exit 0").await, Failed, "gives no meta-data");
        // Floods, and leaves a child behind that keeps its output open.
        let flood = "head -c 5000000 /dev/zero >&2; exit 2";
        check(agent(META, flood).await, Failed, "are wrong");
        let ocf = serde_json::from_value(json!({"agent": "heartbeat:NoSuch"})).expect("an agent");
        let missing = agent_accepts("ocf x".into(), "x".into(), ocf).await;
        check(missing, Failed, "there is no such program");
    }

    #[test]
    fn units_must_be_there_and_left_to_us() {
        for (load, file, result) in [
            ("loaded", "disabled", Passed),
            ("loaded", "static", Passed),
            ("loaded", "enabled", Warning),
            ("not-found", "", Failed),
            ("masked", "masked", Failed),
        ] {
            assert_eq!(judge_unit("x".into(), "u.service", load, file).result, result, "{load}");
        }
    }

    #[tokio::test]
    async fn addresses_must_be_free_and_fit() {
        let judged = async |address: &str, interface: Option<&str>, owner: Option<&str>| {
            let setting = json!({"address": address, "interface": interface});
            let setting = serde_json::from_value(setting).expect("an address");
            address_is_ours("x".into(), setting, owner.map(Into::into)).await
        };
        let taken = judged("127.0.0.1/8", Some("lo"), None).await;
        assert!(taken.what.contains("this machine has it"), "{taken:?}");
        assert_eq!(judged("127.0.0.1/8", Some("lo"), Some("a")).await.result, Passed);
        let elsewhere = judged("198.51.100.7/24", None, None).await;
        assert!(elsewhere.what.contains("no interface of this machine"), "{elsewhere:?}");
        assert!(judged("198.51.100.7/24", Some("eth99"), None).await.what.contains("eth99"));
        assert_eq!(judged("nonsense", None, None).await.result, Failed);
    }

    #[test]
    fn networks_are_read_from_the_kernels_table() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
                     eth0\t00000000\t01004D0A\t0003\t0\t0\t0\t00000000\n\
                     eth0\t00004D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";
        let expected = u32::from(std::net::Ipv4Addr::new(10, 77, 0, 0));
        assert_eq!(routes_v4(table).collect::<Vec<_>>(), [(expected, 0xffff_ff00)]);
    }

    /// A DNS server that answers once with these bytes at places 2 and 3.
    async fn dns(flags: Option<[u8; 2]>) -> Judgement {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let name =
            json!({"name": "x.example.org", "server": server.local_addr().expect("address")});
        let name = serde_json::from_value(name).expect("a name");
        let serve = async {
            let (mut socket, _) = server.accept().await.expect("a connection");
            let length = socket.read_u16().await.expect("a length");
            let mut question = vec![0; usize::from(length)];
            socket.read_exact(&mut question).await.expect("a question");
            assert!(question.ends_with(b"\x07example\x03org\0\0\x06\0\x01"));
            let Some(flags) = flags else { return }; // It hangs up.
            question[2..4].copy_from_slice(&flags);
            socket.write_u16(length).await.expect("sent");
            socket.write_all(&question).await.expect("sent");
        };
        let (judgement, ()) = tokio::join!(server_answers("x".into(), name), serve);
        judgement
    }

    #[tokio::test]
    async fn dns_servers_must_have_the_zone() {
        assert_eq!(dns(Some([0x84, 0])).await.result, Passed);
        assert!(dns(Some([0x80, 0])).await.what.contains("without authority"));
        assert!(dns(Some([0x80, 5])).await.what.contains("RCODE 5"));
        assert_eq!(dns(None).await.result, Failed);
    }
}
