//! Who gets a message: the send ports whose filters match its context.

use model::{Context, Definitions, HostName, PortName};
use thiserror::Error;

use crate::{Filter, FilterError};

/// A send port's filter that is no filter.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("send port {port}: {error}")]
pub struct RoutingError {
    /// The send port.
    pub port: PortName,
    /// What is wrong with its filter.
    #[source]
    pub error: FilterError,
}

/// The subscriptions of one version of the definitions, compiled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routing {
    subscriptions: Vec<Subscription>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Subscription {
    port: PortName,
    host: HostName,
    filter: Filter,
}

impl Routing {
    /// Compiles the filters of all send ports. The definitions must have passed their check.
    pub fn new(definitions: &Definitions) -> Result<Routing, RoutingError> {
        let mut subscriptions: Vec<Subscription> = Vec::new();
        for port in &definitions.send_ports {
            let filter = Filter::parse(&port.filter)
                .map_err(|error| RoutingError { port: port.name.clone(), error })?;
            if subscriptions.iter().all(|known| known.port != port.name) {
                let (port, host) = (port.name.clone(), port.host.clone());
                subscriptions.push(Subscription { port, host, filter });
            }
        }
        Ok(Routing { subscriptions })
    }

    /// Every send port that wants the message, once, with the host that runs it, in the order in
    /// which the ports are defined. None: a routing failure.
    pub fn routes(&self, context: &Context) -> Vec<(&PortName, &HostName)> {
        self.subscriptions
            .iter()
            .filter(|subscription| subscription.filter.matches(context))
            .map(|subscription| (&subscription.port, &subscription.host))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definitions(filters: &[(&str, &str)]) -> Definitions {
        let ports: Vec<_> = filters
            .iter()
            .map(|(name, filter)| {
                serde_json::json!({"name": name, "host": "h", "filter": filter,
                                   "transport": {"file": {"folder": "/out"}}})
            })
            .collect();
        serde_json::from_value(serde_json::json!({ "send_ports": ports })).expect("definitions")
    }

    #[test]
    fn every_matching_port_gets_it_once() {
        let routing = Routing::new(&definitions(&[
            ("orders", "BTS.ReceivePortName == 'orders'"),
            ("invoices", "BTS.ReceivePortName == 'invoices'"),
            ("archive", "true"),
        ]))
        .expect("filters");
        let names = |port: &str| {
            let mut context = Context::default();
            context.set(model::property::RECEIVE_PORT_NAME, port);
            let routes = routing.routes(&context);
            routes.iter().map(|(port, _)| port.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names("orders"), ["orders", "archive"]);
        assert_eq!(names("invoices"), ["invoices", "archive"]);
        assert_eq!(names("other"), ["archive"]);
    }

    #[test]
    fn nobody_may_want_it() {
        let routing = Routing::new(&definitions(&[("a", "false")])).expect("filters");
        assert_eq!(routing.routes(&Context::default()), []);
    }

    #[test]
    fn a_wrong_filter_names_its_port() {
        let error = Routing::new(&definitions(&[("a", "true"), ("b", "x =")])).expect_err("error");
        assert_eq!(error.port.as_str(), "b");
        assert!(error.to_string().starts_with("send port b: "), "{error}");
    }
}
