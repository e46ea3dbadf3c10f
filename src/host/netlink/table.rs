//! All routes of one table, with all their attributes.

use std::net::Ipv4Addr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};

use super::{Interface, Netlink, answered, existing, route_key, route_question};
use crate::host::error::HostError;

impl Netlink {
    /// The IPv4 routes of one table, with all their attributes; `None` if there are more than `routes_max`.
    pub async fn routes_whole(
        &self,
        table: u32,
        routes_max: usize,
    ) -> Result<Option<Vec<RouteMessage>>, HostError> {
        let mut question = route_question();
        question.attributes.push(RouteAttribute::Table(table));
        let mut answers = self.handle.route().get(question).execute();
        let mut found = Vec::new();
        let listed = async {
            while let Some(route) = answers.try_next().await? {
                found.push(route);
                if found.len() > routes_max {
                    break;
                }
            }
            Ok(())
        };
        let listed = answered(&format!("list the routes of table {table}"), listed).await;
        existing(listed.map(|()| Vec::<()>::new()))?;
        Ok((found.len() <= routes_max).then_some(found))
    }

    /// Makes a route, replacing the one with the same destination, prefix length, TOS and priority, if there
    /// is one.
    pub async fn replace_route(&self, route: RouteMessage) -> Result<(), HostError> {
        let what = format!("add {}", name_of(&route));
        answered(&what, self.handle.route().add(route).replace().execute()).await
    }

    /// Deletes the first route that matches this one.
    pub async fn delete_route_like(&self, route: RouteMessage) -> Result<(), HostError> {
        let what = format!("delete {}", name_of(&route));
        answered(&what, self.handle.route().del(route).execute()).await
    }

    /// The interface with this index, if there is one.
    pub async fn interface_if_any(&self, index: u32) -> Result<Option<Interface>, HostError> {
        match self.interface_of_index(index).await {
            Ok(interface) => Ok(Some(interface)),
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn name_of(route: &RouteMessage) -> String {
    let (destination, prefix_len, _, _) = route_key(route);
    let table =
        route.attributes.iter().find_map(|a| if let RouteAttribute::Table(t) = a { Some(*t) } else { None });
    let table = table.map_or_else(|| route.header.table.to_string(), |table| table.to_string());
    let is_default = (destination, prefix_len) == (Ipv4Addr::UNSPECIFIED, 0);
    let destination = if is_default { "default".to_owned() } else { format!("{destination}/{prefix_len}") };
    format!("route {destination} in table {table}")
}
