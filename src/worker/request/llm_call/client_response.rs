//! The response for the client: a refusal in the words of the policy, or the origin's answer,
//! perhaps with the notice that the request was degraded.

use hedgerow_core::enforce::refusal::Refusal;
use hedgerow_core::enforce::worded_refusal::WordedRefusal;
use hedgerow_core::rules::policy::Band;
use web_sys::Response;

use super::LlmCall;
use crate::isolate::principals::OriginNames;
use crate::request::cors::{add_cors_headers, expose_header};
use crate::request::header_list::remove_header;
use crate::request::response::RequestError;
use crate::request::sender;
use crate::request::sender::Sender;
use crate::request::tag;
use crate::request::upstream::{Answer, Upstream};

impl LlmCall<'_> {
    /// Splits the origin's answer into the response for the client and the names that the origin
    /// gave the sender. Removes a header with the name of the notice, which only Hedgerow sends.
    pub(super) fn split_answer(&self, answer: Answer) -> (Response, OriginNames) {
        let Answer { response, origin_headers } = answer;
        if let Some(name) = &self.ruleset.policy().notice.header {
            remove_header(&response.headers(), name);
        }
        let policy = &self.active_rules.active().policy().identity;
        let names = sender::names_of_origin(&origin_headers, policy, self.account_secret);
        (response, names)
    }

    /// Adds the notice of the policy, if it has one for this sender, to the response to a degraded
    /// request. `band` is the band of the request.
    pub(super) fn add_notice(&self, response: &Response, band: Band) {
        let policy = self.ruleset.policy();
        let Sender { account, tenant, account_label, tenant_label, .. } = &self.sender;
        let names = [account, tenant, account_label, tenant_label].map(Option::as_deref);
        if let Some(name) = &policy.notice.header
            && policy.notice.applies_to(band, &names)
        {
            let headers = response.headers();
            tag::set_header(&headers, name, &policy.notice.value(self.upstream.request_id));
            expose_header(&headers, self.upstream.request, &policy.enforce, name);
        }
    }

    /// Returns a refusal with the words of the policy, in the dialect and language of the client.
    pub(super) fn worded(&self, refusal: Refusal) -> Box<WordedRefusal> {
        let Upstream { request, request_id, .. } = self.upstream;
        let language = request.header("accept-language");
        let dialect = self.endpoint.dialect();
        let policy = self.ruleset.policy();
        Box::new(WordedRefusal::new(refusal, policy, dialect, language, request_id))
    }

    /// Returns the response to a refused request, in the dialect of the call.
    pub(super) fn refuse(&self, refusal: Refusal) -> Response {
        let response = RequestError::Refused(self.worded(refusal))
            .to_response(Some(self.endpoint), self.upstream.request_id);
        let settings = &self.ruleset.policy().enforce;
        add_cors_headers(&response.headers(), self.upstream.request, settings);
        response
    }
}
