// Compiles the contracts with the pinned compiler. `build` writes artifacts/, `check` fails when what is there is not
// what the source gives.
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const here = join(dirname(fileURLToPath(import.meta.url)), '..');
const artifact = join(here, 'artifacts', 'Headwater.json');

/** Compiles all of a folder's sources together with those of src. Gives contracts by file and name. */
export function compile(...folders) {
  const solc = createRequire(import.meta.url)('solc');
  const sources = {};
  for (const folder of ['src', ...folders]) {
    for (const file of readdirSync(join(here, folder)).filter((name) => name.endsWith('.sol'))) {
      sources[`${folder}/${file}`] = { content: readFileSync(join(here, folder, file), 'utf8') };
    }
  }
  const settings = {
    evmVersion: 'shanghai',
    optimizer: { enabled: true, runs: 200 },
    metadata: { appendCBOR: false, bytecodeHash: 'none' },
    outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object', 'evm.deployedBytecode.object'] } },
  };
  const input = JSON.stringify({ language: 'Solidity', sources, settings });
  const output = JSON.parse(solc.compile(input));
  const findings = output.errors ?? [];
  if (findings.length > 0) throw new Error(findings.map((finding) => finding.formattedMessage).join('\n'));
  return output.contracts;
}

function artifactText() {
  const made = compile()['src/Headwater.sol'].Headwater;
  const size = made.evm.deployedBytecode.object.length / 2;
  if (size > 24576) throw new Error(`the contract has ${size} bytes, more than a chain takes (24576)`);
  const abi = made.abi.map((entry) => `    ${JSON.stringify(entry)}`).join(',\n');
  return `{\n  "abi": [\n${abi}\n  ],\n  "bytecode": "0x${made.evm.bytecode.object}"\n}\n`;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const text = artifactText();
  if (process.argv[2] === 'build') {
    mkdirSync(dirname(artifact), { recursive: true });
    writeFileSync(artifact, text);
  } else if (process.argv[2] === 'check') {
    if (readFileSync(artifact, 'utf8') !== text) {
      console.error('contracts: artifacts/Headwater.json is not what src/ gives; run scripts/contracts build');
      process.exit(1);
    }
  } else {
    console.error('usage: compile.mjs build|check');
    process.exit(2);
  }
}
