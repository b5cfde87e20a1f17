// One odd answer breaks one view, not the page.
import { Component, type ComponentChildren } from 'preact';
import { ApiError } from '../api.ts';
import { Problem } from './states.tsx';

interface Props {
  title: string;
  /** What is shown; another one is tried anew. */
  place: unknown;
  children: ComponentChildren;
}

export class Boundary extends Component<Props, { error: unknown }> {
  static getDerivedStateFromError(error: unknown) {
    return { error };
  }

  componentDidCatch(error: unknown) {
    console.error(error);
  }

  componentDidUpdate(before: Props) {
    if (this.state.error && before.place !== this.props.place) this.setState({ error: null });
  }

  render() {
    const { error } = this.state;
    if (!error) return this.props.children;
    const told = new ApiError(0, 'broken', `this view broke: ${String(error)}`, 'reload the page; if it lasts, tell the maintainers');
    return (
      <>
        <h1>{this.props.title}</h1>
        <Problem error={told} retry={() => location.reload()} action="Reload the page" />
      </>
    );
  }
}
