//! A small WebDAV server that keeps everything in memory. A test says where it is odd; elsewhere it is sound.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use finaliser::remote::Remote;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use tokio_util::task::AbortOnDropHandle;

use crate::remotes::serving::serve;
use crate::remotes::webdav::open_webdav;

/// What has which decoded path, without a `/` at its end: the content of a file, or `None` for a collection.
pub(crate) type Tree = BTreeMap<String, Option<Bytes>>;

pub(crate) type Answer = Response<Full<Bytes>>;

/// A request.
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// `Destination`, as it came.
    pub(crate) destination: String,
    overwrite: bool,
    depth: bool,
    body: Bytes,
}

pub(crate) struct OddServer {
    pub(crate) remote: Box<dyn Remote>,
    pub(crate) url: String,
    tree: Arc<Mutex<Tree>>,
    lines: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl OddServer {
    /// Starts a server with the collection `/in`. `habit` answers the requests that the server treats in its own way,
    /// and may change the request or what is there.
    pub(crate) async fn start(habit: impl Fn(&mut Asked, &mut Tree) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let tree = Arc::new(Mutex::new(Tree::from([("/in".to_owned(), None)])));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (habit, kept, seen) = (Arc::new(habit), Arc::clone(&tree), Arc::clone(&lines));
        let answer = move |request| {
            let (habit, kept, seen) = (Arc::clone(&habit), Arc::clone(&kept), Arc::clone(&seen));
            async move {
                let mut asked = read(request).await;
                seen.lock().unwrap().push(format!("{} {}", asked.method, asked.path));
                let mut tree = kept.lock().unwrap();
                habit(&mut asked, &mut tree).unwrap_or_else(|| sound(&asked, &mut tree))
            }
        };
        let (origin, task) = serve(None, answer).await;
        let url = format!("{origin}/in/");
        Self { remote: open_webdav(&url, |_| {}), url, tree, lines, _task: task }
    }

    /// A file in `/in`.
    pub(crate) fn stored(&self, name: &str) -> Option<Bytes> {
        self.tree.lock().unwrap().get(&format!("/in/{name}"))?.clone()
    }

    /// Puts a file into `/in`.
    pub(crate) fn keep(&self, name: &str, content: &'static [u8]) {
        self.tree.lock().unwrap().insert(format!("/in/{name}"), Some(content.into()));
    }

    /// The names in a collection.
    pub(crate) fn names(&self, collection: &str) -> Vec<String> {
        let beneath = format!("{collection}/");
        let tree = self.tree.lock().unwrap();
        tree.keys().filter_map(|path| path.strip_prefix(&beneath)).map(str::to_owned).collect()
    }

    /// Method and path of each request.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// How many requests came by a method.
    pub(crate) fn count(&self, method: &str) -> usize {
        self.lines().iter().filter(|line| line.split(' ').next() == Some(method)).count()
    }
}

async fn read(request: Request<Incoming>) -> Asked {
    let (head, body) = request.into_parts();
    let field = |name: &str| head.headers.get(name).map_or(String::new(), |value| value.to_str().unwrap().to_owned());
    let path = percent_decode_str(head.uri.path().trim_end_matches('/')).decode_utf8().unwrap().into_owned();
    Asked {
        method: head.method.to_string(),
        path,
        destination: field("destination"),
        overwrite: field("overwrite") == "T",
        depth: field("depth") == "1",
        body: body.collect().await.map(|body| body.to_bytes()).unwrap_or_default(),
    }
}

/// The path in a `Destination`, decoded, whether that is an address or a path.
pub(crate) fn path_of(destination: &str) -> String {
    let path = destination.split_once("://").map_or(destination, |(_, rest)| &rest[rest.find('/').unwrap()..]);
    percent_decode_str(path).decode_utf8().unwrap().into_owned()
}

pub(crate) fn status(code: u16) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::from_u16(code).unwrap();
    answer
}

/// What a sound server does.
fn sound(asked: &Asked, tree: &mut Tree) -> Answer {
    let path = &asked.path;
    let has_parent = |tree: &Tree, path: &str| {
        let (parent, _) = path.rsplit_once('/').unwrap();
        parent.is_empty() || tree.get(parent) == Some(&None)
    };
    match asked.method.as_str() {
        "PROPFIND" if tree.contains_key(path) => listed(path, asked.depth, tree),
        "PROPFIND" => status(404),
        "MKCOL" if tree.contains_key(path) => status(405),
        "MKCOL" | "PUT" if !has_parent(tree, path) => status(409),
        "MKCOL" => {
            tree.insert(path.clone(), None);
            status(201)
        }
        "PUT" => {
            tree.insert(path.clone(), Some(asked.body.clone()));
            status(201)
        }
        "MOVE" => {
            let to = path_of(&asked.destination);
            match tree.get(path).cloned() {
                None => status(404),
                Some(_) if !has_parent(tree, &to) => status(409),
                Some(_) if !asked.overwrite && tree.contains_key(&to) => status(412),
                Some(content) => {
                    tree.remove(path);
                    tree.insert(to, content);
                    status(201)
                }
            }
        }
        "DELETE" => status(if tree.remove(path).is_some() { 204 } else { 404 }),
        "HEAD" | "GET" => match tree.get(path) {
            // hyper sends the length of what it does not send.
            Some(Some(content)) => Response::new(Full::new(content.clone())),
            _ => status(404),
        },
        _ => status(405),
    }
}

fn listed(path: &str, members: bool, tree: &Tree) -> Answer {
    let is_listed = |found: &str| found == path || (members && found.starts_with(&format!("{path}/")));
    let mut text = "<multistatus xmlns=\"DAV:\">".to_owned();
    for (found, content) in tree.iter().filter(|(found, _)| is_listed(found)) {
        let kind = if content.is_none() { "<collection/>" } else { "" };
        let href = percent_encoding::utf8_percent_encode(found, percent_encoding::NON_ALPHANUMERIC);
        text.push_str(&format!(
            "<response><href>{}</href><propstat><prop><resourcetype>{kind}</resourcetype></prop>\
             <status>HTTP/1.1 200 OK</status></propstat></response>",
            href.to_string().replace("%2F", "/")
        ));
    }
    let mut answer = Response::new(Full::from(format!("{text}</multistatus>")));
    *answer.status_mut() = StatusCode::MULTI_STATUS;
    answer
}
