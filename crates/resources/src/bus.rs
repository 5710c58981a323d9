//! systemd over D-Bus: units, jobs and their ends.

use futures_util::StreamExt;
use zbus::{Connection, OwnedObjectPath, OwnedVariant, Proxy};

const MANAGER: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const UNIT_INTERFACE: &str = "org.freedesktop.systemd1.Unit";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const SERVICE_INTERFACE: &str = "org.freedesktop.systemd1.Service";

/// A connection to systemd.
pub(crate) struct Bus {
    connection: Connection,
    manager: Proxy<'static>,
}

/// A unit, and what it is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnitState {
    /// `active`, `activating`, `deactivating`, `reloading`, `inactive`, `failed`, `maintenance`.
    pub active: String,
    /// `running`, `exited`, `dead`, `start-pre`, …
    pub sub: String,
    /// `loaded`, `not-found`, `masked`, `bad-setting`, `error`.
    pub load: String,
    /// Why a service ended last: `success`, `exit-code`, `signal`, `oom-kill`, …
    pub result: String,
}

impl Bus {
    /// Connects to a bus by its address, or to the system's.
    pub async fn connect(address: Option<&str>) -> zbus::Result<Bus> {
        let builder = match address {
            Some(address) => zbus::connection::Builder::address(address),
            None => zbus::connection::Builder::system(),
        };
        let connection = builder.build().await?;
        let manager = Proxy::new(&connection, MANAGER, MANAGER_PATH, MANAGER_INTERFACE).await?;
        Ok(Bus { connection, manager })
    }

    /// What a unit is doing. It is loaded for that, if it was not.
    pub async fn state(&self, unit: &str) -> zbus::Result<UnitState> {
        let path = self.load(unit).await?;
        let properties = Proxy::new(&self.connection, MANAGER, path, PROPERTIES).await?;
        Ok(UnitState {
            active: property(&properties, UNIT_INTERFACE, "ActiveState").await?,
            sub: property(&properties, UNIT_INTERFACE, "SubState").await?,
            load: property(&properties, UNIT_INTERFACE, "LoadState").await?,
            // Other types of units have none.
            result: property(&properties, SERVICE_INTERFACE, "Result").await.unwrap_or_default(),
        })
    }

    async fn load(&self, unit: &str) -> zbus::Result<OwnedObjectPath> {
        self.manager.call("LoadUnit", &(unit,)).await
    }

    /// Runs `StartUnit` or `StopUnit` and waits for the end of the job: `done`, `failed`,
    /// `timeout`, `canceled`, `dependency`, `skipped`.
    pub async fn job(&self, verb: &str, unit: &str) -> zbus::Result<String> {
        self.subscribe().await?;
        let mut removed = self.manager.receive_signal("JobRemoved").await?;
        let job: OwnedObjectPath = self.manager.call(verb, &(unit, "replace")).await?;
        while let Some(signal) = removed.next().await {
            let body = signal.body();
            let (_, path, _, result): (u32, OwnedObjectPath, String, String) =
                body.deserialize()?;
            if path == job {
                return Ok(result);
            }
        }
        Err(zbus::Error::Failure("systemd has closed the connection".into()))
    }

    /// Kills all processes of a unit.
    pub async fn kill(&self, unit: &str) -> zbus::Result<()> {
        const SIGKILL: i32 = 9;
        self.manager.call("KillUnit", &(unit, "all", SIGKILL)).await
    }

    /// Calls back with each state that a unit gets into, until one is wanted.
    pub async fn wait_for(
        &self,
        unit: &str,
        wanted: impl Fn(&UnitState) -> bool,
    ) -> zbus::Result<UnitState> {
        self.subscribe().await?;
        let path = self.load(unit).await?;
        let properties = Proxy::new(&self.connection, MANAGER, path, PROPERTIES).await?;
        let mut changes = properties.receive_signal("PropertiesChanged").await?;
        loop {
            // Asked again after each hint: signals may be lost, states are not.
            let state = self.state(unit).await?;
            if wanted(&state) {
                return Ok(state);
            }
            if changes.next().await.is_none() {
                return Err(zbus::Error::Failure("systemd has closed the connection".into()));
            }
        }
    }

    /// Asks for signals. A second time is refused, and means the same.
    async fn subscribe(&self) -> zbus::Result<()> {
        match self.manager.call::<_, _, ()>("Subscribe", &()).await {
            Err(zbus::Error::MethodError(name, _, _))
                if name.as_str() == "org.freedesktop.systemd1.AlreadySubscribed" =>
            {
                Ok(())
            }
            result => result,
        }
    }
}

/// Reads a property from systemd, not from what a proxy remembers.
async fn property(properties: &Proxy<'_>, interface: &str, name: &str) -> zbus::Result<String> {
    let value: OwnedVariant = properties.call("Get", &(interface, name)).await?;
    String::try_from(value).map_err(|error| zbus::Error::Failure(error.to_string()))
}
