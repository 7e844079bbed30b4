/** The element with that id. Throws where the page has none, because then page and script are of different builds. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`no element ${id}`);
  return element as T;
}

/** Sets a text only where it differs, so that the browser need not lay out again. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export function setHidden(element: HTMLElement, hidden: boolean): void {
  if (element.hidden !== hidden) element.hidden = hidden;
}

export function setData(element: HTMLElement, name: string, value: string): void {
  if (element.dataset[name] !== value) element.dataset[name] = value;
}

export function create<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = '',
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (className !== '') element.className = className;
  element.append(...children);
  return element;
}

/** Draws one part of the page. */
export type PageView = () => void;

/** Milliseconds of script in a frame after which the remaining views wait for the next frame. */
const FRAME_MS = 3;

/** Draws each view at most once a frame, in order of request, for at most a few milliseconds a frame. */
export class Frames {
  readonly #views = new Set<PageView>();
  /**
   * Views that were drawn before. A view's first draw builds its elements and takes the longest, so it gets its own
   * frame.
   */
  readonly #known = new Set<PageView>();
  #scheduled = false;

  /** Draws the view in the next frame, not in the current one, in which the caller (a message) already takes time. */
  request(view: PageView): void {
    this.#views.add(view);
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => requestAnimationFrame(() => this.#draw()));
  }

  #draw(): void {
    const begin = performance.now();
    let drawn = 0;
    for (const view of [...this.#views]) {
      const isNew = !this.#known.has(view);
      if (drawn > 0 && (isNew || performance.now() > begin + FRAME_MS)) break;
      this.#views.delete(view);
      this.#known.add(view);
      view();
      drawn++;
      if (isNew) break;
    }
    this.#scheduled = this.#views.size > 0;
    if (this.#scheduled) requestAnimationFrame(() => this.#draw());
  }
}
