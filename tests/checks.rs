//! The protocols of the checks, as tables: what is sent, and which outcome which answer has. An answer has the same
//! outcome wherever its packets end.

#[path = "checks/agent.rs"]
mod agent;
#[path = "checks/datagrams.rs"]
mod datagrams;
#[path = "checks/dns.rs"]
mod dns;
#[path = "checks/exchange.rs"]
mod exchange;
#[path = "checks/exec.rs"]
mod exec;
#[path = "checks/grpc.rs"]
mod grpc;
#[path = "checks/harness.rs"]
mod harness;
#[path = "checks/http.rs"]
mod http;
#[path = "checks/http_options.rs"]
mod http_options;
#[path = "checks/pages.rs"]
mod pages;
#[path = "checks/redirects.rs"]
mod redirects;
#[path = "checks/responses.rs"]
mod responses;
#[path = "checks/rows.rs"]
mod rows;
