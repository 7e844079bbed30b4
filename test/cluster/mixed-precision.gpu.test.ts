import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect } from 'vitest';
import { Gpu } from '../../src/gpu/device.js';
import { WIRES } from '../../src/model/wire.js';
import { openDawn } from '../../src/node/dawn.js';
import { SMALL, workFolder } from '../cli/run.js';
import { slowTest } from '../slow.js';
import { Lantrain, startCoordinator, startWorker } from './processes.js';

const folder = workFolder();
afterAll(() => folder.remove());

const BASE = [...SMALL, '--batch', '4', '--micro-batch', '1', '--dropout', '0.1', '--precision', 'f16'];

async function alone(...options: string[]): Promise<string> {
  const run = new Lantrain(['train', ...options, '--json'], folder.path);
  expect(await run.ended, run.text).toBe(0);
  return String(run.digest());
}

async function together(workers: number, ...options: string[]): Promise<string> {
  const { coordinator, url } = await startCoordinator([...options, '--min-workers', String(workers)], folder.path);
  const all = Array.from({ length: workers }, (_, i) => startWorker(url, `w${i}`, folder.path));
  expect(await coordinator.ended, coordinator.text).toBe(0);
  for (const worker of all) expect(await worker.ended, worker.text).toBe(0);
  return String(coordinator.digest());
}

function statePath(run: string): string {
  const checkpoints = join(folder.path, run, 'checkpoints');
  return join(checkpoints, readdirSync(checkpoints).sort().at(-1) as string, 'state.json');
}

slowTest.for(WIRES)(
  'a run in mixed precision has one digest: alone, resumed, with one worker and with two, also where scales overflow: wire %s',
  async (wire) => {
    const gpu = await Gpu.open(openDawn());
    const has = gpu.has('shader-f16');
    gpu.device.destroy();
    if (!has) return console.warn('mixed precision is not tested: this adapter has no shader-f16');
    const base = [...BASE, '--wire', wire];
    const named = (name: string) => `${wire}-${name}`;
    const digest = await alone(...base, '--steps', '6', '--out', named('alone'));
    expect(await together(2, ...base, '--steps', '6', '--out', named('two'))).toBe(digest);

    await alone(...base, '--steps', '3', '--out', named('cut'));
    const state = JSON.parse(readFileSync(statePath(named('cut')), 'utf8'));
    expect(state.trainer.lossScale).toEqual({ exponent: 16, goodSteps: 3 });
    cpSync(join(folder.path, named('cut')), join(folder.path, named('huge')), { recursive: true });
    expect(await together(1, '--resume', named('cut'), '--steps', '6')).toBe(digest);

    // The scale overflows: every worker finds the same scale for a micro-batch.
    writeFileSync(
      statePath(named('huge')),
      JSON.stringify({ ...state, trainer: { lossScale: { exponent: 40, goodSteps: 3 } } }),
    );
    cpSync(join(folder.path, named('huge')), join(folder.path, named('huge-two')), { recursive: true });
    const backedOff = await alone('--resume', named('huge'), '--steps', '6');
    const after = JSON.parse(readFileSync(statePath(named('huge')), 'utf8')).trainer.lossScale;
    expect(after.exponent).toBeLessThan(40);
    expect(await together(2, '--resume', named('huge-two'), '--steps', '6')).toBe(backedOff);
    expect(JSON.parse(readFileSync(statePath(named('huge-two')), 'utf8')).trainer.lossScale).toEqual(after);
  },
);
