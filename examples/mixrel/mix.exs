defmodule Mixrel.MixProject do
  use Mix.Project

  def project do
    [
      app: :mixrel,
      version: "0.1.0",
      elixir: "~> 1.14",
      deps: [],
      # what changed between two versions is told from debug info
      releases: [mixrel: [include_executables_for: [:unix], strip_beams: false]]
    ]
  end

  # sasl has release_handler, which upgrades a running node
  def application do
    [mod: {Mixrel, []}, extra_applications: [:logger, :sasl]]
  end
end
