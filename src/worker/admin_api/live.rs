//! `/live`: a WebSocket that notifies the console of new counts and decisions, and `/live/ticket`:
//! tickets that open it.
//!
//! A browser cannot set `Authorization` for a WebSocket. It sends a ticket in
//! `Sec-WebSocket-Protocol` instead. Logs may contain that header. So a ticket only opens the
//! WebSocket, and expires after 30 seconds.

use hedgerow_core::api::LiveTicket;
use hedgerow_core::hash_purpose::HashPurpose;
use subtle::ConstantTimeEq;
use web_sys::Response;

use crate::admin_api::error::ApiError;
use crate::ledger_do::client::open_websocket;
use crate::platform::settings::Settings;
use crate::platform::{clock, hmac_sha256};
use crate::request::client_request::ClientRequest;

/// Path of the WebSocket.
pub const PATH: &str = "/_hedgerow/v1/live";

/// Seconds for which a ticket is valid.
const TICKET_TTL_SECONDS: u64 = 30;

/// Opens a WebSocket to the ledger's first object. The WebSocket announces only reports that this
/// object gets. If LEDGER_SHARDS is above 1, reports to the other objects are not announced.
///
/// # Errors
/// `upgrade`, if the request does not ask for a WebSocket; `unavailable`, if the ledger does not
/// accept the WebSocket.
pub async fn handle(request: &ClientRequest, settings: &Settings) -> Result<Response, ApiError> {
    let upgrade = request.header("upgrade").unwrap_or_default();
    if !upgrade.eq_ignore_ascii_case("websocket") {
        let message = "this path accepts only WebSocket connections";
        let remedy = "connect by WebSocket; a browser offers the protocols `hedgerow.v1` and \
            `ticket.` with a ticket of /live/ticket";
        return Err(ApiError::new(426, "upgrade", message, remedy));
    }
    let selects_protocol = request.header("sec-websocket-protocol").is_some();
    open_websocket(settings, selects_protocol).await.ok_or_else(ApiError::ledger_unavailable)
}

/// Returns a ticket that is signed with `secret`. Returns `None` if signing fails, which should
/// never happen.
pub fn issue_ticket(secret: &str) -> Option<LiveTicket> {
    let expires = clock::now_seconds() + TICKET_TTL_SECONDS;
    sign_ticket(secret, expires).map(|ticket| LiveTicket { ticket, expires })
}

/// Returns whether `secret` signed the ticket, and the ticket has not expired.
pub fn is_valid_ticket(secret: &str, ticket: &str) -> bool {
    let expires = ticket.split_once('.').and_then(|(expires, _)| expires.parse::<u64>().ok());
    let is_in_range = |expires: &u64| {
        (clock::now_seconds()..=clock::now_seconds() + TICKET_TTL_SECONDS).contains(expires)
    };
    let expected = expires.filter(is_in_range).and_then(|expires| sign_ticket(secret, expires));
    expected.is_some_and(|expected| bool::from(expected.as_bytes().ct_eq(ticket.as_bytes())))
}

/// Returns the ticket `<expires>.<MAC>`. `expires` is in seconds since the epoch. The MAC is the
/// first 16 bytes of an HMAC-SHA256 in hex.
fn sign_ticket(secret: &str, expires: u64) -> Option<String> {
    let mac =
        hmac_sha256::hmac_hex(secret, HashPurpose::LiveTicket, expires.to_string().as_bytes(), 16)?;
    Some(format!("{expires}.{mac}"))
}
