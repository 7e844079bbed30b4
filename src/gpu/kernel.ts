import { LantrainError } from '../errors.js';
import type { Gpu } from './device.js';

/** The text of every file in `shaders/`, by file name without `.wgsl`. Callers pass it in, because this folder reads no files. */
export type ShaderTexts = Readonly<Record<string, string>>;

export type Constants = Readonly<Record<string, number | boolean>>;

/** The identity of a pipeline: shader, entry point, values of `override` constants, defines. */
export interface KernelId {
  /** File in `shaders/` without `.wgsl`. */
  readonly shader: string;
  readonly entry: string;
  readonly constants: Constants;
  /** Names of the shader's lines that take their second form: see `composeShader`. */
  readonly defines?: readonly string[];
}

type Access = 'uniform' | 'read' | 'read_write';

interface Declared {
  readonly binding: number;
  readonly access: Access;
}

interface Shader {
  readonly module: GPUShaderModule;
  readonly declared: ReadonlyMap<string, Declared>;
  /** Whether it declares the override KEEP_LOOPS. */
  readonly keepsLoops: boolean;
}

export interface Kernel {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  /** Binding numbers by the names of the WGSL variables. */
  readonly bindings: ReadonlyMap<string, number>;
}

const IMPORT = /^\/\/! import (\w+)$/gm;
const DECLARATION = /@group\(0\)\s*@binding\((\d+)\)\s*var<(uniform|storage)(?:\s*,\s*(read|read_write))?>\s*(\w+)/g;
/** `line  //! name: other line` */
const DEFINE = /^(.*?) *\/\/! (\w+): (.+)$/gm;
/** Lines between `//! each STORE: store storeGelu` and `//! end`. */
const EACH = /^\/\/! each (\w+): ([\w ]+)\n([\s\S]*?)^\/\/! end$/gm;
const ENABLE = /^enable [\w, ]+;$/gm;

/**
 * The text of the shader `name`, preprocessed. Throws LT_GPU_SHADER where a file is missing.
 *
 * - `//! import random` puts that file in front, once.
 * - `alias Out = f32;  //! f16Out: alias Out = f16;` becomes its second form where `f16Out` is among `defines`, else its
 *   first form. So defines choose types and bindings, which overrides cannot. The forms may be imports.
 * - Lines between `//! each STORE: store storeGelu` and `//! end` are repeated for each of the names, which replaces STORE at
 *   the beginning of words: WGSL cannot pass functions.
 */
export function composeShader(texts: ShaderTexts, name: string, defines: readonly string[] = []): string {
  const seen = new Set<string>();
  const parts: string[] = [];
  const visit = (file: string) => {
    if (seen.has(file)) return;
    seen.add(file);
    const text = texts[file];
    if (text === undefined) throw new LantrainError('LT_GPU_SHADER', `there is no shader ${file}.wgsl`);
    const own = text.replace(EACH, repeated).replace(DEFINE, defined);
    for (const match of own.matchAll(IMPORT)) visit(match[1]);
    parts.push(own);
  };
  const defined = (_line: string, before: string, name: string, after: string) =>
    defines.includes(name) ? after : before;
  const repeated = (_lines: string, word: string, names: string, lines: string) =>
    names
      .split(' ')
      .map((name) => lines.replaceAll(new RegExp(`\\b${word}`, 'g'), name))
      .join('\n');
  visit(name);
  const joined = parts.join('\n');
  // Directives must come before every declaration.
  const enables = [...new Set(joined.match(ENABLE))];
  if (/\bf16\b/.test(joined.replace(/\/\/.*$/gm, '')) && !enables.includes('enable f16;')) enables.push('enable f16;');
  return `${enables.join('\n')}\n${joined.replace(ENABLE, '')}`;
}

/** Compiles each shader and each pipeline once, and keeps the uniform buffers of constant numbers. */
export class KernelCache {
  readonly #shaders = new Map<string, Promise<Shader>>();
  readonly #kernels = new Map<string, Promise<Kernel>>();
  readonly #numbers = new Map<string, GPUBuffer>();

  constructor(
    readonly gpu: Gpu,
    readonly texts: ShaderTexts,
  ) {}

  /** The pipeline for `id` with a bind group layout of just the variables `names`. Throws LT_GPU_SHADER. */
  get(id: KernelId, names: readonly string[]): Promise<Kernel> {
    const defines = [...(id.defines ?? [])].sort();
    const key = JSON.stringify([id.shader, id.entry, Object.entries(id.constants).sort(), [...names].sort(), defines]);
    let kernel = this.#kernels.get(key);
    if (kernel === undefined) {
      kernel = this.#build(id, names);
      this.#kernels.set(key, kernel);
    }
    return kernel;
  }

  /** A constant uniform buffer of these u32 numbers, shared by all that bind them. Memory budgets do not count its bytes. */
  numbers(values: readonly number[]): GPUBuffer {
    const key = values.join();
    let buffer = this.#numbers.get(key);
    if (buffer === undefined) {
      const size = Math.ceil(values.length / 4) * 16;
      buffer = this.gpu.device.createBuffer({ label: 'numbers', size, usage: 0x40, mappedAtCreation: true });
      new Uint32Array(buffer.getMappedRange()).set(values);
      buffer.unmap();
      this.#numbers.set(key, buffer);
    }
    return buffer;
  }

  get pipelineCount(): number {
    return this.#kernels.size;
  }

  async #build(id: KernelId, names: readonly string[]): Promise<Kernel> {
    const defines = [...(id.defines ?? [])].sort();
    const key = [id.shader, ...defines].join(' ');
    let shader = this.#shaders.get(key);
    if (shader === undefined) {
      shader = compile(this.gpu, id.shader, composeShader(this.texts, id.shader, defines));
      this.#shaders.set(key, shader);
    }
    const { module, declared, keepsLoops } = await shader;
    const bindings = new Map<string, number>();
    const entries: GPUBindGroupLayoutEntry[] = names.map((name) => {
      const d = declared.get(name);
      if (d === undefined) throw new LantrainError('LT_GPU_SHADER', `${id.shader}.wgsl declares no variable ${name}`);
      bindings.set(name, d.binding);
      const type = ({ uniform: 'uniform', read: 'read-only-storage', read_write: 'storage' } as const)[d.access];
      return { binding: d.binding, visibility: 0x4, buffer: { type } };
    });
    const { device } = this.gpu;
    const layout = device.createBindGroupLayout({ label: id.shader, entries });
    const constants: Record<string, number> = {};
    for (const [name, value] of Object.entries(id.constants)) constants[name] = Number(value);
    // shaders/loops.wgsl; no bit depends on it.
    if (keepsLoops) constants.KEEP_LOOPS = Number(this.gpu.adapter.software);
    try {
      const pipeline = await device.createComputePipelineAsync({
        label: `${id.shader}.${id.entry}`,
        layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module, entryPoint: id.entry, constants },
      });
      return { pipeline, layout, bindings };
    } catch (cause) {
      this.gpu.check();
      const message = cause instanceof Error ? cause.message : String(cause);
      throw new LantrainError(
        'LT_GPU_SHADER',
        `${id.shader}.wgsl, entry ${id.entry}, with ${JSON.stringify(id.constants)}: ${message}`,
        { cause },
      );
    }
  }
}

async function compile(gpu: Gpu, name: string, code: string): Promise<Shader> {
  gpu.device.pushErrorScope('validation');
  const module = gpu.device.createShaderModule({ label: name, code });
  const [error, info] = await Promise.all([gpu.device.popErrorScope(), module.getCompilationInfo()]);
  const errors = info.messages.filter((m) => m.type === 'error');
  if (error || errors.length > 0) {
    const lines = code.split('\n');
    const shown = errors.map((m) => {
      const from = Math.max(0, m.lineNum - 3);
      const around = lines.slice(from, m.lineNum + 2).map((l, i) => `${String(from + i + 1).padStart(5)} | ${l}`);
      return `line ${m.lineNum}:${m.linePos} ${m.message}\n${around.join('\n')}`;
    });
    throw new LantrainError('LT_GPU_SHADER', `${name}.wgsl does not compile: ${shown.join('\n') || error?.message}`);
  }
  const declared = new Map<string, Declared>();
  for (const [, binding, space, access, variable] of code.matchAll(DECLARATION)) {
    declared.set(variable, {
      binding: Number(binding),
      access: space === 'uniform' ? 'uniform' : ((access ?? 'read') as Access),
    });
  }
  return { module, declared, keepsLoops: /^override KEEP_LOOPS\b/m.test(code) };
}
