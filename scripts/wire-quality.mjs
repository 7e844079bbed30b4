/**
 * `npm run wire-quality` trains the same models with `--wire exact` and with `--wire low` and compares their validation
 * losses. Each finished run is a line of `wire-quality/results.jsonl`, so the script can be stopped at any time and goes
 * on where it was. It prints the table of docs/benchmarks.md.
 *
 *     npm run wire-quality                      all that is missing, then the table
 *     npm run wire-quality -- --table           the table of what there is
 *     npm run wire-quality -- tiny-500 --wire exact
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const WIRES = ['exact', 'low'];

/** `most`: the largest allowed mean of the differences low - exact, in nats. */
const EXPERIMENTS = {
  'tiny-500': { what: '`tiny`, 500 steps', seeds: 8, most: 0.02, options: { preset: 'tiny', steps: 500 } },
  'tiny-2000': { what: '`tiny`, 2,000 steps', seeds: 3, most: 0.03, options: { preset: 'tiny', steps: 2000 } },
  'gpt2-500': {
    what: "GPT-2's vocabulary, 3.3 million parameters, 500 steps",
    seeds: 3,
    most: 0.03,
    options: {
      preset: 'tiny',
      tokenizer: 'gpt2',
      tie: true,
      weights: 'gpt2',
      layers: 2,
      heads: 4,
      width: 64,
      lr: 1e-3,
      steps: 500,
    },
  },
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    table: { type: 'boolean' },
    wire: { type: 'string' },
    folder: { type: 'string', default: 'wire-quality' },
  },
});
const unknown = positionals.find((name) => !(name in EXPERIMENTS));
if (unknown !== undefined || (values.wire !== undefined && !WIRES.includes(values.wire))) {
  console.error(`wire-quality: experiments are ${Object.keys(EXPERIMENTS).join(', ')}; wires are ${WIRES.join(', ')}`);
  process.exit(2);
}
const names = positionals.length > 0 ? positionals : Object.keys(EXPERIMENTS);
const wires = values.wire === undefined ? WIRES : [values.wire];
const folder = resolve(values.folder);
const file = join(folder, 'results.jsonl');

function results() {
  if (!existsSync(file)) return [];
  // A line that a kill cut off is no result.
  return readFileSync(file, 'utf8')
    .split('\n')
    .flatMap((line) => {
      try {
        return line === '' ? [] : [JSON.parse(line)];
      } catch {
        return [];
      }
    });
}

const found = (all, name, seed, wire) =>
  all.findLast((one) => one.experiment === name && one.seed === seed && one.wire === wire);

async function runMissing() {
  const { train } = await import(join(root, 'dist/src/index.js'));
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  mkdirSync(folder, { recursive: true });
  for (const name of names)
    for (let seed = 1; seed <= EXPERIMENTS[name].seeds; seed++)
      for (const wire of wires) {
        if (found(results(), name, seed, wire) !== undefined) continue;
        const out = join(folder, `${name}-${wire}-${seed}`);
        rmSync(out, { recursive: true, force: true });
        let last;
        const { digest, complete } = await train(
          {
            ...EXPERIMENTS[name].options,
            wire,
            seed,
            out,
            evalEvery: EXPERIMENTS[name].options.steps,
            // All of the validation part.
            evalBatches: 240,
            sampleTokens: 0,
            checkpointEvery: '0',
          },
          {
            signal: stop.signal,
            onEvent: (event) => {
              if (event.event === 'eval') last = event;
            },
          },
        );
        rmSync(out, { recursive: true, force: true });
        if (!complete || stop.signal.aborted) return;
        const result = { experiment: name, seed, wire, valLoss: last.valLoss, trainLoss: last.trainLoss, digest };
        appendFileSync(file, `${JSON.stringify(result)}\n`);
        console.log(`${name} seed ${seed} ${wire}: validation ${last.valLoss.toFixed(4)}`);
      }
}

function table() {
  const all = results();
  const rows = names.map((name) => {
    const { what, seeds, most } = EXPERIMENTS[name];
    const pairs = Array.from({ length: seeds }, (_, i) =>
      WIRES.map((wire) => found(all, name, i + 1, wire)?.valLoss),
    ).filter((pair) => pair.every((loss) => loss !== undefined));
    const mean = (numbers) => numbers.reduce((sum, x) => sum + x, 0) / numbers.length;
    const differences = pairs.map(([exact, low]) => low - exact);
    const average = mean(differences);
    const spread = Math.sqrt(
      differences.reduce((sum, d) => sum + (d - average) ** 2, 0) / (differences.length - 1) / differences.length,
    );
    if (pairs.length === 0) return `| ${what} | ${seeds} | | | | +${most} | 0 of ${seeds} pairs |`;
    const losses = [0, 1].map((i) => mean(pairs.map((pair) => pair[i])).toFixed(4));
    const shown = `${average >= 0 ? '+' : ''}${average.toFixed(4)} ± ${spread.toFixed(4)}`;
    const holds = pairs.length < seeds ? `${pairs.length} of ${seeds} pairs` : average <= most ? 'yes' : 'no';
    return `| ${what} | ${seeds} | ${losses.join(' | ')} | ${shown} | +${most} | ${holds} |`;
  });
  console.log('| run | seeds | exact | low | difference, nats | at most | held |');
  console.log('| --- | --- | --- | --- | --- | --- | --- |');
  for (const row of rows) console.log(row);
}

if (!values.table) await runMissing();
table();
process.exit(0);
