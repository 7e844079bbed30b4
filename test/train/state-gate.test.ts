import { expect, test } from 'vitest';
import { StateGate } from '../../src/train/state-gate.js';

/** Work that ends on request. */
function openWork(log: string[], name: string) {
  let end: () => void = () => {};
  const work = () => {
    log.push(name);
    return new Promise<void>((go) => {
      end = go;
    });
  };
  return { work, end: () => end() };
}

const settled = () => new Promise((go) => setTimeout(go));

test('updates run together, readers run together, and never both', async () => {
  const gate = new StateGate();
  const log: string[] = [];
  const [u1, u2, r1, r2] = ['u1', 'u2', 'r1', 'r2'].map((name) => openWork(log, name));
  const all = [gate.update(u1.work), gate.update(u2.work), gate.read(r1.work), gate.read(r2.work)];
  await settled();
  expect(log).toEqual(['u1', 'u2']);
  u1.end();
  await settled();
  expect(log).toEqual(['u1', 'u2']);
  u2.end();
  await settled();
  expect(log).toEqual(['u1', 'u2', 'r1', 'r2']);
  r1.end();
  r2.end();
  await Promise.all(all);
});

test('a task that waits is not overtaken, so a stream of updates cannot keep a reader out', async () => {
  const gate = new StateGate();
  const log: string[] = [];
  const [u1, r1, u2] = ['u1', 'r1', 'u2'].map((name) => openWork(log, name));
  const all = [gate.update(u1.work), gate.read(r1.work), gate.update(u2.work)];
  await settled();
  expect(log).toEqual(['u1']);
  u1.end();
  await settled();
  expect(log).toEqual(['u1', 'r1']);
  r1.end();
  await settled();
  expect(log).toEqual(['u1', 'r1', 'u2']);
  u2.end();
  await Promise.all(all);
});

test('work that fails lets the next one in', async () => {
  const gate = new StateGate();
  const failed = gate.update(() => Promise.reject(new Error('no memory')));
  const read = gate.read(() => 'state');
  await expect(failed).rejects.toThrow('no memory');
  expect(await read).toBe('state');
});
