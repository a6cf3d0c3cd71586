/** Lets a loop sleep until something happens, or a time has passed. What happens while it is awake counts for its next sleep. */
export class Wakening {
  #isDue = false;
  #wake = () => {};

  wake(): void {
    this.#isDue = true;
    this.#wake();
  }

  async sleep(milliseconds: number): Promise<void> {
    if (!this.#isDue) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, milliseconds);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#isDue = false;
    this.#wake = () => {};
  }
}
