import { basename } from 'node:path';
import { describeModel } from '../model/config.js';
import { parameterCount } from '../model/parameters.js';
import type { RunConfig } from '../train/run-config.js';
import { planHash } from './prepare.js';

/** `834,304 parameters: 4 layers, ...`. */
export function modelLine({ model }: RunConfig): string {
  const names = parameterCount(model).toLocaleString('en');
  return `${names} parameters: ${describeModel(model)}`;
}

/** A run's configuration as names and values, for people. */
export function settingsOf(config: RunConfig): [string, string][] {
  const { options: o, model } = config;
  const wave = o.schedule === 'constant' ? 'constant' : `${o.schedule}`;
  return [
    ['Model', modelLine(config)],
    ['Data', config.data.description],
    ['Steps', `${config.totalSteps.toLocaleString('en')}, ${config.stepsPerEpoch.toLocaleString('en')} an epoch`],
    ['Batch', `${o.batch} x ${model.context} tokens, micro-batches of ${o.microBatch}`],
    ['Learning rate', `${o.lr}, ${wave}${o.warmup > 0 ? `, ${o.warmup} steps of warm-up` : ''}`],
    ['AdamW', `beta ${o.beta1}, ${o.beta2}, epsilon ${o.eps}, weight decay ${o.weightDecay} (${o.decay})`],
    ['Clip', o.clip > 0 ? `norm ${o.clip}` : 'off'],
    ['Dropout', o.dropout > 0 ? String(o.dropout) : 'off'],
    ['Weights', config.init === undefined ? `drawn as ${o.weights}` : `from ${basename(config.init)}`],
    ['Seed', `${o.seed}${o.shuffle ? ', shuffled' : ', in order'}`],
    ['Data SHA-256', config.data.hash],
    ['Plan', planHash(config.plan)],
    ['Adapter', config.adapter],
    ['lantrain', config.version],
  ];
}
