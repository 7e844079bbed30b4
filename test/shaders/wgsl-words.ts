/** Words, types and values of WGSL, for wgsl-scan.ts. */

/** The comment that marks a function whose products are exact. */
export const EXACT_PRODUCTS = 'rule (c): exact products';
/** The comment that marks a function whose products are with powers of two. */
export const POWERS_OF_TWO = 'rule (b): products with powers of two';
const MARK = /rule \([bc]\): /;

/** Names that may have template arguments. */
export const TEMPLATES = new Set('vec2 vec3 vec4 array bitcast atomic ptr var'.split(' '));

const NUMBER = /(?:0x[\da-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)[iufh]?/;
/** `>` stands alone: it may end template arguments. */
const OPERATOR = /->|&&|\|\||<<=?|[-+*/%&|^=!<>]=|\+\+|--|./;
const TOKEN = new RegExp(`//.*|\\s+|${NUMBER.source}|[A-Za-z_]\\w*|${OPERATOR.source}`, 'gy');

export interface Token {
  readonly text: string;
  readonly at: number;
}

/** `kind`: what the compiler sees: a sum, a product, a chain `acc + a * b` of exact products, or neither. */
export interface Value {
  readonly type: string;
  readonly kind: 'plain' | 'sum' | 'product' | 'chain';
  readonly constant?: boolean;
  readonly powerOfTwo?: boolean;
}

export const isFloat = (type: string) => /^(f32|f16|float|vec[234][fh])$/.test(type);
export const isInteger = (type: string) => /^(i32|u32|int|vec[234][iu])$/.test(type);
export const scalarOf = (type: string) =>
  type.replace(/^vec\d(\w)$/, (_, of: string) => ({ f: 'f32', h: 'f16', u: 'u32', i: 'i32', b: 'bool' })[of] ?? '?');
export const vectorOf = (type: string, size: number) => (size === 1 ? type : `vec${size}${type[0]}`);
const isPower = (x: number) => x > 0 && Number.isInteger(Math.log2(x));

/** The words of a text, without comments other than these marks, and their lines from 0. */
export function tokensOf(source: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  for (const [text] of source.matchAll(TOKEN)) {
    if (/\S/.test(text) && (!text.startsWith('//') || MARK.test(text))) tokens.push({ text, at });
    at += text.split('\n').length - 1;
  }
  return tokens;
}

/** The type of an operation on values of types `a` and `b`. */
export function joined(a: string, b: string): string {
  if (a === 'int' || (a === 'float' && isFloat(b))) return b;
  if (b === 'int' || b === 'float' || !b.startsWith('vec')) return a;
  return b;
}

/** The value of a literal. */
export function numberOf(text: string): Value {
  const isWhole = /^(0x[\da-f]+|\d+)[iu]?$/i.test(text);
  const suffix = text.startsWith('0x') ? text.match(/[iu]$/)?.[0] : text.match(/[iufh]$/)?.[0];
  const type = suffix ? { i: 'i32', u: 'u32', f: 'f32', h: 'f16' }[suffix] : isWhole ? 'int' : 'float';
  return { type: type ?? '?', kind: 'plain', constant: true, powerOfTwo: isPower(Number.parseFloat(text)) };
}

/** Reads words one after the other, and what they declare. */
export class Reader {
  protected readonly tokens: readonly Token[];
  protected readonly lines: string[];
  protected next = 0;
  readonly #aliases = new Map<string, string>();

  constructor(source: string) {
    this.tokens = tokensOf(source);
    this.lines = source.split('\n');
  }

  protected get text(): string {
    return this.tokens[this.next]?.text ?? '';
  }

  protected take(expected?: string): Token {
    const token = this.tokens[this.next++];
    if (token === undefined || (expected !== undefined && token.text !== expected)) this.fail(`expected ${expected}`);
    return token;
  }

  protected has(text: string): boolean {
    if (this.text === text) this.next++;
    else return false;
    return true;
  }

  protected fail(what: string): never {
    const { at = 0, text = 'the end' } = this.tokens[this.next - 1] ?? {};
    throw new Error(`${what}, at ${text} in line ${at + 1}: ${this.lines[at]}`);
  }

  protected attribute(): string {
    const { text } = this.take();
    if (this.has('(')) this.skipParentheses();
    return text;
  }

  protected skipParentheses(): void {
    for (let depth = 1; depth > 0; ) depth += { '(': 1, ')': -1 }[this.take().text] ?? 0;
  }

  /** A type's name, without spaces; a pointer's is that of what it points to. */
  protected type(): string {
    const name = this.take().text;
    if (!this.has('<')) return this.named(name);
    const parts = [''];
    while (!this.has('>')) {
      if (this.has(',')) parts.push('');
      else if (this.has('(')) this.skipParentheses();
      else parts[parts.length - 1] += TEMPLATES.has(this.text) ? this.type() : this.named(this.take().text);
    }
    if (name === 'ptr') return parts[1];
    if (name === 'atomic') return parts[0];
    return name.startsWith('vec') ? `${name}${parts[0][0]}` : `${name}<${parts.join()}>`;
  }

  protected named(name: string): string {
    return this.#aliases.get(name) ?? name;
  }

  protected alias(): void {
    const name = this.take().text;
    this.take('=');
    this.#aliases.set(name, this.type());
  }

  protected members(open: string, close: string): Map<string, string> {
    const members = new Map<string, string>();
    this.take(open);
    while (!this.has(close)) {
      if (this.has('@')) this.attribute();
      else if (!this.has(',')) {
        const name = this.take().text;
        this.take(':');
        members.set(name, this.type());
      }
    }
    return members;
  }
}
