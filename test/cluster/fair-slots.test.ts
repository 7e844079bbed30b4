import { expect, test } from 'vitest';
import { FairSlots } from '../../cluster/coordinator/fair-slots.js';

type Give = () => void;

/** Asks for `count` slots; the returned array gets those that are given. */
async function ask(take: () => Promise<Give>, count: number): Promise<Give[]> {
  const given: Give[] = [];
  for (let i = 0; i < count; i++) void take().then((give) => given.push(give));
  await new Promise((go) => setImmediate(go));
  return given;
}

test('a connection alone gets all that it asks for at once', async () => {
  const slots = new FairSlots(16);
  expect(await ask(slots.taker('a'), 4)).toHaveLength(4);
});

test('connections of one person that give nothing back leave room for every newcomer', async () => {
  const slots = new FairSlots(16);
  let held = 0;
  for (let i = 0; i < 20; i++) held += (await ask(slots.taker('stalls'), 4)).length;
  expect(held).toBe(8);
  for (const person of ['b', 'c', 'd', 'e']) expect((await ask(slots.taker(person), 4)).length).toBeGreaterThan(0);
});

test('what is given back goes to who has waited longest and may have it', async () => {
  const slots = new FairSlots(2);
  const [a] = await ask(slots.taker('a'), 1);
  const [b] = await ask(slots.taker('b'), 1);
  const c = await ask(slots.taker('c'), 1);
  const d = await ask(slots.taker('d'), 1);
  expect([c.length, d.length]).toEqual([0, 0]);
  a();
  await new Promise((go) => setImmediate(go));
  expect([c.length, d.length]).toEqual([1, 0]);
  b();
  await new Promise((go) => setImmediate(go));
  expect(d).toHaveLength(1);
});
