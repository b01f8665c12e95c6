//! Which Home Assistant to listen to.

use url::Url;

use super::super::Machine;
use super::super::faults::Faults;
use super::super::options;
use super::super::settings::HomeAssistant;
use super::{address, tls, token};

/// The Supervisor's proxy to Home Assistant; it takes the Supervisor's token.
const BY_SUPERVISOR: &str = "ws://supervisor/core/websocket";

pub(super) fn check(
    typed: options::HomeAssistant,
    machine: &Machine<'_>,
    faults: &mut Faults,
) -> Option<HomeAssistant> {
    let tls = tls("home_assistant", typed.verify_tls, &typed.ca_certificate, machine, faults);
    token("home_assistant.token", &typed.token, faults);
    let has_url = !typed.url.trim().is_empty();
    let url = if has_url { websocket(&typed.url, faults) } else { None };
    match (has_url, !typed.token.is_empty()) {
        (false, false) => {
            let token = machine.supervisor_token()?;
            let url = Url::parse(BY_SUPERVISOR).expect("the Supervisor's address is a URL");
            Some(HomeAssistant { url, token, tls })
        }
        (true, true) => Some(HomeAssistant { url: url?, token: typed.token, tls }),
        (true, false) => {
            let problem = "is empty, but home_assistant.url is set: create a long-lived access token on your profile page \
                           in Home Assistant and put it here";
            faults.at("home_assistant.token", problem);
            None
        }
        (false, true) => {
            let problem = "is empty, but home_assistant.token is set: give both, such as \
                           http://homeassistant.local:8123 here";
            faults.at("home_assistant.url", problem);
            None
        }
    }
}

/// People know the address of the web page; the WebSocket API is a path below it.
fn websocket(text: &str, faults: &mut Faults) -> Option<Url> {
    const KEY: &str = "home_assistant.url";
    let mut url = address(KEY, text, &["http", "https", "ws", "wss"], faults)?;
    if !url.username().is_empty() || url.password().is_some() {
        faults.at(KEY, "must not hold a user name or password: home_assistant.token is the login");
        return None;
    }
    let scheme = if matches!(url.scheme(), "https" | "wss") { "wss" } else { "ws" };
    url.set_scheme(scheme).expect("http and ws are of one kind");
    let path = url.path().trim_end_matches('/');
    let path = match path.strip_suffix("/websocket") {
        // Also the Supervisor's `/core/websocket`.
        Some(_) => path.to_owned(),
        None => format!("{}/api/websocket", path.strip_suffix("/api").unwrap_or(path)),
    };
    url.set_path(&path);
    Some(url)
}
