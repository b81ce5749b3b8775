#!/usr/bin/env node
// Checks who uses whom: between our crates by `cargo metadata`, and which module may name
// which library by the sources. The table is that of node/docs/architecture.md.
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';

const OURS = {
  'headwater-proto': [],
  'headwater-protocol': ['headwater-proto'],
  'headwater-media': [],
  'headwater-chain': [],
  headwater: ['headwater-proto', 'headwater-protocol', 'headwater-media', 'headwater-chain'],
  'headwater-anvil': [],
  'headwater-e2e': ['headwater-anvil', 'headwater-media', 'headwater-protocol'],
  'headwater-fuzz': ['headwater-media', 'headwater-proto', 'headwater-protocol'],
  'headwater-sim': ['headwater-proto', 'headwater-protocol'],
};

// Everything that `protocol` is built from must be free of I/O.
const NEVER_IN_PROTOCOL = [/^tokio/, /^mio$/, /^socket2$/, /^libp2p/, /^getrandom$/, /^futures-timer$/];

// Library, and the folders or files that may name it.
const ROOMS = [
  [/\blibp2p\b/, ['node/src/net/', 'node/benches/link.rs', 'node/tests/hostile.rs']],
  [/\b(axum|hyper|hyper_util|tower|tower_http)\b/, ['node/src/http/', 'node/tests/http/', 'chain/src/ethereum/rpc/']],
  [/\bsled\b/, ['node/src/store/']],
  [/\bethers_(contract|core|providers|signers)\b/, ['chain/src/ethereum/', 'chain/tests/ethereum/']],
  [/\bffmpeg_next\b/, ['media/src/']],
  [/\brml_rtmp\b/, ['media/src/ingest/rtmp/']],
  [/\bm3u8_rs\b/, ['media/src/playlist/']],
  // Of tokio's clock, which tests stop and turn, see tokio::time::pause.
  [/\bSystemTime::now\b|(?<!tokio::time::)\bInstant::now\b/, ['node/src/clock.rs', 'node/src/net/', 'node/src/pipeline/library.rs', 'node/src/cli/demo.rs', 'media/src/ingest/rtmp/', 'media/benches/', 'node/benches/', 'chain/benches/', 'tests/']],
];

let failures = 0;
function fail(message) {
  console.error(`boundary: ${message}`);
  failures += 1;
}

const metadata = JSON.parse(execFileSync('cargo', ['metadata', '--format-version', '1', '--locked'], { maxBuffer: 1 << 28 }));
const root = metadata.workspace_root;
const packages = new Map(metadata.packages.map((one) => [one.id, one]));
const members = new Set(metadata.workspace_members);

for (const id of members) {
  const { name, dependencies } = packages.get(id);
  const allowed = OURS[name];
  if (!allowed) { fail(`${name} is not in the table`); continue; }
  for (const dependency of dependencies) {
    if (dependency.kind === 'dev' || !(dependency.name in OURS)) continue;
    if (!allowed.includes(dependency.name)) fail(`${name} uses ${dependency.name}`);
  }
}

const nodes = new Map(metadata.resolve.nodes.map((node) => [node.id, node]));
const start = [...members].find((id) => packages.get(id).name === 'headwater-protocol');
const seen = new Set([start]);
for (const id of seen) {
  for (const { pkg, dep_kinds: kinds } of nodes.get(id).deps) {
    if (kinds.some((kind) => kind.kind === null)) seen.add(pkg);
  }
}
for (const id of seen) {
  const { name } = packages.get(id);
  if (NEVER_IN_PROTOCOL.some((pattern) => pattern.test(name))) fail(`headwater-protocol is built from ${name}`);
}

function* sources(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      if (!['target', 'node_modules', '.git'].includes(entry.name)) yield* sources(path);
    } else if (entry.name.endsWith('.rs')) yield path;
  }
}

for (const path of sources(root)) {
  const file = relative(root, path);
  const lines = readFileSync(path, 'utf8').split('\n');
  lines.forEach((line, at) => {
    const code = line.replace(/\/\/.*$/, '');
    for (const [library, rooms] of ROOMS) {
      if (library.test(code) && !rooms.some((room) => file.startsWith(room))) {
        fail(`${file}:${at + 1} names ${code.match(library)[0]}, which belongs in ${rooms.join(', ')}`);
      }
    }
  });
}

if (failures > 0) process.exit(1);
console.log(`boundaries hold in ${members.size} crates`);
