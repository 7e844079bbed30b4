import { basename } from 'node:path';
import { describeModel } from '../model/config.js';
import { parameterCount } from '../model/parameters.js';
import { version } from '../node/version.js';
import type { RunConfig } from '../train/run-config.js';
import type { RunFacts } from '../watch/messages.js';
import { planHash } from './plan.js';

/** `834,304 parameters: 4 layers, ...`. */
export function modelLine({ model }: RunConfig): string {
  const names = parameterCount(model).toLocaleString('en');
  return `${names} parameters: ${describeModel(model)}`;
}

/** A run's configuration as pairs of name and value, for people. */
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
    ['Arithmetic', o.precision === 'portable' ? 'portable' : `${o.precision}, plan ${planHash(config.plan)}`],
    ...(o.wire === 'low' ? [['Wire', 'low'] as [string, string]] : []),
    ['Adapter', config.adapter],
    ['lantrain', config.version],
  ];
}

/** The facts of a run that its page shows before the first event. `path`: its folder. */
export function factsOf(config: RunConfig, path: string, kind: RunFacts['kind']): RunFacts {
  return {
    type: 'run',
    name: basename(path),
    version: version(),
    kind,
    model: modelLine(config),
    data: config.data.description,
    adapter: config.adapter,
    totalSteps: config.totalSteps,
    tokensPerStep: config.options.batch * config.model.context,
    stepsPerEpoch: config.stepsPerEpoch,
    settings: settingsOf(config),
  };
}
