// Limits the effect of a rendering error to one view.
import { Component, type ComponentChildren } from 'preact';
import { ApiError } from '../api.ts';
import { Problem } from './async-states.tsx';

interface Props {
  title: string;
  /** The current location. When the location changes, rendering is tried again. */
  location: unknown;
  children: ComponentChildren;
}

export class Boundary extends Component<Props, { error: unknown }> {
  static getDerivedStateFromError(error: unknown) {
    return { error };
  }

  componentDidCatch(error: unknown) {
    console.error(error);
  }

  componentDidUpdate(previous: Props) {
    if (this.state.error && previous.location !== this.props.location) {
      this.setState({ error: null });
    }
  }

  render() {
    const { error } = this.state;
    if (!error) return this.props.children;
    const shown = new ApiError(
      0,
      'broken',
      `this view failed: ${String(error)}`,
      'reload the page; if the error persists, report it to the maintainers',
    );
    return (
      <>
        <h1>{this.props.title}</h1>
        <Problem error={shown} retry={() => location.reload()} action="Reload the page" />
      </>
    );
  }
}
